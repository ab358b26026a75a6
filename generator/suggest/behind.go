package suggest

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/zerolet/zerolet/generator"
	"github.com/zerolet/zerolet/quadlet"
	"github.com/zerolet/zerolet/quadlet/scale"
)

// A container without ports, on a network with a reverse proxy, is reached there by
// its name or found by its labels: what it lacks is a line Listen=NETWORK:PORT. Which
// port that is, the file has to say in some way. A guess would be a container that
// nobody reaches.

// front is a reverse proxy.
type front struct {
	file     *quadlet.File // that runs it
	networks []string
	known    bool // by its image, or since it has the port of HTTPS
}

// fronts are the reverse proxies among some files. Who has port 80 may be one: that
// tells only together with a label, or a name, that is for one.
func fronts(files []*quadlet.File) (all []front) {
	for _, f := range files {
		if f.Kind() != "Container" {
			continue
		}
		holder := f // of ports and networks
		if pod, ok := scale.PodOf(f); ok {
			if i := slices.IndexFunc(files, func(o *quadlet.File) bool { return o.Name() == pod.Value }); i >= 0 {
				holder = files[i]
			}
		}
		ports := published(holder)
		known := isFront(f, len(ports) > 0) || slices.Contains(ports, 443)
		if known || slices.Contains(ports, 80) {
			all = append(all, front{f, networks(holder), known})
		}
	}
	return all
}

// published are the ports of the host that a file has.
func published(f *quadlet.File) (ports []int) {
	for _, entry := range f.All(f.Kind(), "PublishPort") {
		all, err := scale.ParsePublish(entry.Value)
		if err != nil {
			continue
		}
		for _, p := range all {
			ports = append(ports, int(p.HostPort))
		}
	}
	return ports
}

// isFront reports whether a container's image is that of a reverse proxy. nginx is
// as often the app itself: then it has no port of the host's.
func isFront(f *quadlet.File, ports bool) bool {
	entry, _ := f.Last("Container", "Image")
	image := imageName(entry.Value)
	switch image {
	case "nginx", "nginx-unprivileged", "openresty", "angie", "httpd":
		return ports
	case "nginx-proxy", "nginx-proxy-manager", "npmplus", "swag", "envoy", "zoraxy", "bunkerweb", "tsdproxy", "cloudflared":
		return true
	}
	return slices.ContainsFunc(strings.Split(image, "-"), func(word string) bool {
		return slices.Contains([]string{"caddy", "traefik", "haproxy"}, word)
	})
}

// imageName is the name of an image, or of the file that gets it.
func imageName(image string) string {
	image, _, _ = strings.Cut(image, "@")
	image = image[strings.LastIndexByte(image, '/')+1:]
	image, _, _ = strings.Cut(image, ":")
	for _, suffix := range []string{".image", ".build"} {
		image = strings.TrimSuffix(image, suffix)
	}
	return image
}

// addNames has containers that are behind a reverse proxy listen where that looks for
// them.
func (s *search) addNames(plan *generator.Plan) (changed bool) {
	for _, e := range plan.Endpoints {
		m := s.missing[e.Spec.File.Name()]
		if m == nil || !m.section || e.Refused() || !e.Spec.Dependency() || e.Spec.File.Kind() == "Kube" {
			continue
		}
		listen, sure := s.behind(e, plan)
		if len(listen) == 0 || !sure && len(e.Needs) > 0 {
			continue
		}
		m.listen, m.portless, changed = listen, false, true
		// Who leaves a network no longer finds its neighbours there, which a file need not name;
		// and who has no other is told that it is renamed.
		if _, named := e.Spec.File.Last("Container", "HostName"); !named {
			m.listen = append(m.listen, "StandIn="+scale.StandInRename)
		}
	}
	return changed
}

// spareFronts leaves out the reverse proxies of others that sleep: they have clients for
// all of these, and run all the time.
func (s *search) spareFronts(plan *generator.Plan) (changed bool) {
	for _, e := range plan.Endpoints {
		if before := s.sleeperBehind(e.Files(), plan); before != nil && s.leave(e) {
			changed = true
			s.refused[e.Spec.File.Name()] = s.isFrontOf(s.original(e.Spec.File), before)
		}
	}
	return changed
}

func (s *search) isFrontOf(f *quadlet.File, e *generator.Endpoint) quadlet.Diagnostic {
	return quadlet.Diagnostic{Pos: f.UnitPos(), Message: "it is a reverse proxy, and " + service(e.Spec.File) + " sleeps behind it"}
}

// sleeperBehind is one that listens on a network where some files' reverse proxy is, nil
// if there is none.
func (s *search) sleeperBehind(files []*quadlet.File, plan *generator.Plan) *generator.Endpoint {
	if !slices.ContainsFunc(files, s.isFront) {
		return nil
	}
	i := slices.IndexFunc(plan.Endpoints, func(e *generator.Endpoint) bool {
		return !e.Refused() && e.Spec.File.Path != files[0].Path && slices.ContainsFunc(e.Spec.OnNetworks(), func(l scale.Listener) bool {
			return slices.Contains(networks(files[0]), l.HostNetwork)
		})
	})
	if i < 0 {
		return nil
	}
	return plan.Endpoints[i]
}

// behind are the lines of a container that is reached by way of a reverse proxy, none
// if the port is not known, and whether it is sure that it is. Else it may be for
// another container, which calls it.
func (s *search) behind(e *generator.Endpoint, plan *generator.Plan) (lines []string, sure bool) {
	f := e.Spec.File
	ports, sure := labelled(f)
	for _, c := range s.fronts {
		for _, port := range s.calledAt(c.file, e) {
			sure = true
			ports = append(ports, port)
		}
	}
	shared := s.frontedNetworks(f, sure)
	if len(shared) == 0 || s.isFront(f) && !sure {
		return nil, false
	}
	if !sure && slices.ContainsFunc(s.users(e, plan), func(user *generator.Endpoint) bool { return !s.isFront(user.Spec.File) }) {
		return nil, false
	}
	if len(ports) == 0 {
		ports = declared(f)
	}
	slices.Sort(ports)
	for _, network := range shared {
		for _, port := range slices.Compact(slices.Clone(ports)) {
			lines = append(lines, "Listen="+network+":"+strconv.Itoa(port))
		}
	}
	return lines, sure
}

func (s *search) isFront(f *quadlet.File) bool {
	return slices.ContainsFunc(s.fronts, func(c front) bool { return c.known && c.file.Path == f.Path })
}

// frontedNetworks are those of a container on which a reverse proxy is.
func (s *search) frontedNetworks(f *quadlet.File, sure bool) (shared []string) {
	for _, network := range networks(f) {
		if !regexp.MustCompile(`^[a-zA-Z0-9_.-]+$`).MatchString(network) || slices.Contains(shared, network) {
			continue // a variable, or a specifier
		}
		if slices.ContainsFunc(s.fronts, func(c front) bool {
			return (c.known || sure) && c.file.Path != f.Path && slices.Contains(c.networks, network)
		}) {
			shared = append(shared, network)
		}
	}
	return shared
}

// mayBeBehind reports whether a reverse proxy may know a container in a way that its
// own file and what is mounted from the machine do not tell. Traefik goes by labels.
func (s *search) mayBeBehind(f *quadlet.File) bool {
	if _, is := labelled(f); is {
		return true
	}
	return slices.ContainsFunc(s.fronts, func(c front) bool {
		entry, _ := c.file.Last("Container", "Image")
		shares := slices.ContainsFunc(networks(f), func(name string) bool { return slices.Contains(c.networks, name) })
		return c.known && c.file.Path != f.Path && shares && imageName(entry.Value) != "traefik" && len(s.configured(c.file)) == 0
	})
}

// askPort tells what to write for a container that does not sleep, if it is behind a
// reverse proxy and its port is not known.
func (s *search) askPort(f *quadlet.File, d quadlet.Diagnostic) quadlet.Diagnostic {
	_, sure := labelled(f)
	if shared := s.frontedNetworks(f, sure); len(shared) > 0 && f.Kind() != "Kube" && !s.isFront(f) {
		d.Hint = fmt.Sprintf("behind the reverse proxy on %s: add Listen=%[1]s:PORT to a [ScaleToZero] section, and say which port the container listens on; "+
			"else %s", shared[0], d.Hint)
	}
	return d
}

// labelled are the ports that labels for a reverse proxy name, and whether there is
// such a label: of Traefik, caddy-docker-proxy, tsdproxy, SWAG, and the variables of
// nginx-proxy, which are used like labels.
func labelled(f *quadlet.File) (ports []int, is bool) {
	settings := func(key string, of func(name, value string)) {
		for _, entry := range f.All("Container", key) {
			for _, argument := range entry.Arguments() {
				name, value, _ := strings.Cut(argument, "=")
				of(name, value)
			}
		}
	}
	off := false
	settings("Label", func(name, value string) {
		low := strings.ToLower(name) // as Traefik does
		off = off || low == "traefik.enable" && strings.EqualFold(value, "false")
		for _, label := range frontLabels() {
			if !label.name.MatchString(low) {
				continue
			}
			is = true
			if label.port == nil {
				continue
			}
			if match := label.port.FindStringSubmatch(value); match != nil {
				ports = appendPort(ports, match[1])
			}
		}
	})
	settings("Environment", func(name, value string) {
		is = is || name == "VIRTUAL_HOST"
		if name == "VIRTUAL_PORT" {
			ports = appendPort(ports, value)
		}
	})
	return ports, is && !off
}

// frontLabel is a label for a reverse proxy; port finds the container's in its value.
type frontLabel struct{ name, port *regexp.Regexp }

func frontLabels() []frontLabel {
	number := regexp.MustCompile(`^(\d+)$`)
	return []frontLabel{
		{regexp.MustCompile(`^traefik\.(http|tcp)\.services\.[^.]+\.loadbalancer\.server\.port$`), number},
		{regexp.MustCompile(`^traefik\.(enable|(http|tcp)\.routers\..*)$`), nil},
		{regexp.MustCompile(`^caddy(_\d+)?\.(.*\.)?(\d+_)?reverse_proxy(_\d+)?$`), regexp.MustCompile(`\{\{ *upstreams +(?:[a-z0-9+]*[a-z][a-z0-9+]* +)?(\d+) *\}\}`)},
		{regexp.MustCompile(`^caddy(_\d+)?$`), nil},
		{regexp.MustCompile(`^tsdproxy\.container_port$`), number},
		{regexp.MustCompile(`^tsdproxy\.port\.[^.]+$`), regexp.MustCompile(`^\d+/\w+:(\d+)/\w+$`)},
		{regexp.MustCompile(`^tsdproxy\.enable$`), nil},
		{regexp.MustCompile(`^swag_port$`), number},
		{regexp.MustCompile(`^swag$`), nil},
	}
}

// calledAt are the ports behind a name of a container in what a reverse proxy is told.
func (s *search) calledAt(f *quadlet.File, e *generator.Endpoint) (ports []int) {
	texts := append(s.told(f), s.configured(f)...)
	for _, name := range namesOf(e.Files()) {
		if name == "" {
			continue
		}
		at := regexp.MustCompile(`(?:^|[^a-zA-Z0-9_.-])` + regexp.QuoteMeta(name) + `:(\d+)\b`)
		for _, text := range texts {
			for _, match := range at.FindAllStringSubmatch(text, -1) {
				ports = appendPort(ports, match[1])
			}
		}
	}
	return ports
}

// declared are the ports that a file says its container has: those of ExposeHostPort=,
// else that of a variable which is for it.
func declared(f *quadlet.File) (ports []int) {
	for _, entry := range f.All("Container", "ExposeHostPort") {
		value, protocol, _ := strings.Cut(entry.Value, "/")
		if protocol == "" || strings.EqualFold(protocol, "tcp") {
			ports = appendPort(ports, value)
		}
	}
	if len(ports) > 0 {
		return ports
	}
	for _, entry := range f.All("Container", "Environment") {
		for _, argument := range entry.Arguments() {
			name, value, _ := strings.Cut(argument, "=")
			if slices.Contains([]string{"PORT", "HTTP_PORT", "LISTEN_PORT", "WEBUI_PORT"}, name) {
				ports = appendPort(ports, value)
			}
		}
	}
	if slices.Sort(ports); len(slices.Compact(slices.Clone(ports))) > 1 {
		return nil // one of them is for something else
	}
	return ports
}

func appendPort(ports []int, text string) []int {
	if port, err := strconv.ParseUint(text, 10, 16); err == nil && port > 0 {
		ports = append(ports, int(port))
	}
	return ports
}
