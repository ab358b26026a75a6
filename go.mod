module github.com/zerolet/zerolet

go 1.25.0

require (
	github.com/containers/podman/v4 v4.9.5
	github.com/coreos/go-systemd/v22 v22.7.0
	github.com/godbus/dbus/v5 v5.2.4
	go.yaml.in/yaml/v3 v3.0.4
	golang.org/x/sys v0.38.0
)

require github.com/containers/storage v1.51.0 // indirect
