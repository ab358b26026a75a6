// Stock Quadlet of Podman 6.0.0, to compare with.
module github.com/zerolet/zerolet/test/oracle/podman-6.0.0

go 1.25.6

tool go.podman.io/podman/v6/cmd/quadlet

require (
	go.podman.io/podman/v6 v6.0.0 // indirect
	go.podman.io/storage v1.63.0 // indirect
)
