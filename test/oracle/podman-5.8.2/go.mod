// Stock Quadlet of Podman 5.8.2, to compare with.
module github.com/zerolet/zerolet/test/oracle/podman-5.8.2

go 1.25.0

tool github.com/containers/podman/v5/cmd/quadlet

require (
	github.com/containers/podman/v5 v5.8.2 // indirect
	go.podman.io/storage v1.62.0 // indirect
)
