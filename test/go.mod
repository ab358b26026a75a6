module github.com/zerolet/zerolet/test

go 1.25.0

require (
	github.com/coder/websocket v1.8.14
	github.com/prometheus/common v0.66.1
	github.com/rogpeppe/go-internal v1.14.1
	github.com/zerolet/zerolet v0.0.0-00010101000000-000000000000
	golang.org/x/sys v0.38.0
	google.golang.org/grpc v1.76.0
)

require (
	github.com/containers/podman/v4 v4.9.5 // indirect
	github.com/containers/storage v1.51.0 // indirect
	github.com/coreos/go-systemd/v22 v22.7.0 // indirect
	github.com/kr/pretty v0.3.1 // indirect
	github.com/munnerz/goautoneg v0.0.0-20191010083416-a7dc8b61c822 // indirect
	github.com/prometheus/client_model v0.6.2 // indirect
	go.yaml.in/yaml/v2 v2.4.2 // indirect
	golang.org/x/net v0.43.0 // indirect
	golang.org/x/text v0.28.0 // indirect
	golang.org/x/tools v0.35.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20250804133106-a7a43d27e69b // indirect
	google.golang.org/protobuf v1.36.8 // indirect
)

replace github.com/zerolet/zerolet => ../
