package suggest

import (
	"slices"

	"github.com/zerolet/zerolet/generator"
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

// spareWorkers leaves out what works by itself.
func (s *search) spareWorkers(plan *generator.Plan) (changed bool) {
	for _, e := range plan.Endpoints {
		if d, works := s.ownWork(e); works && s.leave(e) {
			changed = true
			d.Hint = "if it may stop with the last connection, write the section [ScaleToZero] into " + e.Spec.File.Name() + " or a drop-in"
			s.refused[e.Spec.File.Name()] = d
		}
	}
	return changed
}

// ownWork is what one of the containers of an endpoint does by itself, if anything, or
// that it listens to a broker of messages.
func (s *search) ownWork(e *generator.Endpoint) (d quadlet.Diagnostic, works bool) {
	for _, f := range s.containersOf(e) {
		image, _ := f.Last("Container", "Image")
		if says, does := deedOf(image.Value); does {
			return quadlet.Diagnostic{Pos: image.Pos, Message: says}, true
		}
		for _, other := range s.files {
			if isBroker(other) && (mentionsAny(f, other) || mentions(f, "After", other) || s.names(f, namesOf([]*quadlet.File{other}))) {
				return quadlet.Diagnostic{Pos: f.UnitPos(), Message: "it would not hear what comes by way of " + other.Name()}, true
			}
		}
	}
	for _, p := range e.Spec.Played {
		if says, does := deedOf(p.Image); does {
			return quadlet.Diagnostic{Pos: s.original(e.Spec.File).UnitPos(), Message: says}, true
		}
	}
	return d, false
}

// containersOf are the files of an endpoint's containers as they are, also of those in
// a pod that is refused.
func (s *search) containersOf(e *generator.Endpoint) (files []*quadlet.File) {
	for _, f := range s.files {
		if pod, in := scale.PodOf(f); f.Path == e.Spec.File.Path || in && pod.Value == e.Spec.File.Name() {
			files = append(files, f)
		}
	}
	return files
}

func deedOf(image string) (says string, does bool) {
	for _, d := range deeds() {
		if slices.Contains(d.images, imageName(image)) {
			return d.says, true
		}
	}
	return "", false
}

func isBroker(f *quadlet.File) bool {
	image, _ := f.Last("Container", "Image")
	return slices.Contains(brokers(), imageName(image.Value))
}
