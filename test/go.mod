module github.com/zerolet/zerolet/test

go 1.25.0

require (
	github.com/zerolet/zerolet v0.0.0-00010101000000-000000000000
	golang.org/x/sys v0.38.0
)

require (
	github.com/containers/podman/v4 v4.9.5 // indirect
	github.com/containers/storage v1.51.0 // indirect
	github.com/coreos/go-systemd/v22 v22.7.0 // indirect
)

replace github.com/zerolet/zerolet => ../
