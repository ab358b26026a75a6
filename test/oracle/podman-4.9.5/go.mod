// Stock Quadlet of Podman 4.9.5, to compare with.
module github.com/zerolet/zerolet/test/oracle/podman-4.9.5

go 1.25.0

tool github.com/containers/podman/v4/cmd/quadlet

require (
	github.com/containers/podman/v4 v4.9.5 // indirect
	github.com/containers/storage v1.51.0 // indirect
)
