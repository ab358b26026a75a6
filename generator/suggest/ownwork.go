package suggest

import (
	"slices"

	"github.com/zerolet/zerolet/quadlet"
	"github.com/zerolet/zerolet/quadlet/scale"
)

// Some containers work while nobody is connected to them: what they do so would end
// with the last connection. No key of a file tells, but the image does. That they sleep
// is for the user to say, with a section.

// deed is what some images do by themselves.
type deed struct {
	says   string
	images []string // names, without registry, owner and tag
}

func deeds() []deed {
	return []deed{
		{"downloads and shares go on while nobody is connected", []string{
			"aria2", "deluge", "jdownloader-2", "nzbget", "qbittorrent", "qbittorrent-nox", "rtorrent", "rutorrent", "sabnzbd",
			"slskd", "transmission",
		}},
		{"it looks for what is new at times of its own", []string{
			"bazarr", "changedetection.io", "lidarr", "radarr", "readarr", "sonarr", "whisparr",
		}},
		{"who has subscribed to it is to hear of all that comes", brokers()},
		{"it keeps the copies on other machines in step by itself", []string{"resilio-sync", "syncthing"}},
		{"a whole network asks it for names at all times", []string{
			"adguardhome", "bind9", "blocky", "coredns", "dns-server", "dnsmasq", "pihole", "unbound",
		}},
		{"a VPN's own packets do not tell whether it is used", []string{
			"headscale", "netbird", "openvpn", "tailscale", "wg-easy", "wireguard", "zerotier",
		}},
		{"it watches what nobody asks it for", []string{
			"alertmanager", "alloy", "beszel", "beszel-agent", "crowdsec", "fail2ban", "fluent-bit", "gatus", "healthchecks",
			"loki", "netdata", "opentelemetry-collector", "opentelemetry-collector-contrib", "otel-collector", "prometheus",
			"promtail", "scrutiny", "smokeping", "telegraf", "uptime-kuma", "vector", "victoria-logs", "victoria-metrics",
			"vmagent", "vmalert",
		}},
		{"it works with devices by itself", []string{
			"deconz", "esphome", "evcc", "frigate", "home-assistant", "homeassistant", "homebridge", "openhab",
			"python-matter-server", "scrypted", "zigbee2mqtt", "zwave-js-ui",
		}},
		{"it does things at times of its own", []string{
			"backrest", "borgmatic", "cloudflare-ddns", "ddclient", "ddns-updater", "diun", "duckdns", "duplicati", "huginn",
			"kopia", "n8n", "node-red", "ofelia", "watchtower",
		}},
		{"it takes jobs by itself", []string{"act_runner", "actions-runner", "forgejo-runner", "gitlab-runner", "runner", "woodpecker-agent"}},
		{"it delivers mail by itself", []string{"docker-mailserver", "maddy", "postfix", "stalwart"}},
	}
}

func brokers() []string {
	return []string{"eclipse-mosquitto", "emqx", "hivemq-ce", "hivemq4", "mosquitto", "nanomq", "vernemq"}
}

// ownWork is what a container of a file, or of one of its pod, does by itself, if
// anything.
func (s *search) ownWork(f *quadlet.File) (d quadlet.Diagnostic, works bool) {
	for _, other := range s.files {
		if pod, in := scale.PodOf(other); other == f || in && pod.Value == f.Name() {
			if d, works = s.deedOf(other); works {
				d.Hint = "if it may stop with the last connection, write the section [ScaleToZero] into " + f.Name() + " or a drop-in"
				return d, true
			}
		}
	}
	return d, false
}

// deedOf is what one container does by itself, or is told by a broker of messages.
func (s *search) deedOf(f *quadlet.File) (d quadlet.Diagnostic, works bool) {
	entry, _ := f.Last("Container", "Image")
	for _, d := range deeds() {
		if slices.Contains(d.images, imageName(entry.Value)) {
			return quadlet.Diagnostic{Pos: entry.Pos, Message: d.says}, true
		}
	}
	for _, other := range s.files {
		image, _ := other.Last("Container", "Image")
		if slices.Contains(brokers(), imageName(image.Value)) &&
			(mentionsAny(f, other) || mentions(f, "After", other) || s.names(f, []*quadlet.File{other})) {
			return quadlet.Diagnostic{Pos: f.UnitPos(), Message: "it would not hear what comes by way of " + other.Name()}, true
		}
	}
	return d, false
}
