package proxy

import "github.com/zerolet/zerolet/proxy/wire"

// The configuration is the wire's.
type (
	Config  = wire.Config
	Address = wire.Address
	Forward = wire.Forward
	Network = wire.Network
)

const (
	TCP  = wire.TCP
	UDP  = wire.UDP
	Unix = wire.Unix

	Infinity = wire.Infinity
	NoCheck  = wire.NoCheck
)

var (
	ParseAddress = wire.ParseAddress
	TCPAddress   = wire.TCPAddress

	ErrConfig = wire.ErrConfig
)
