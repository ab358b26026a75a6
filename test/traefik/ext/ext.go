// Package ext stands for Traefik's own, which is not published as a module.
package ext

type (
	HTTP       struct{}
	Router     struct{}
	Middleware struct{}
	Service    struct{}
)
