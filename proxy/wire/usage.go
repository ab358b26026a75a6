package wire

// Usage is what --help prints.
const Usage = `usage: zerolet-proxy --container=UNIT [--member=UNIT]...
       [--pidfile=PATH [--conmon] | --infra | --entry=PATH |
        --entry-outside=PATH] [--host-network]
       [--ready-check=CHECK] [--started=PATH]... [--proxy-protocol=v1|v2]
       [--client-address=client|proxy] [--max-connections=N] [--allow-from=PREFIX]...
       [--volume=DIRECTORY]... [--connection-idle-timeout=TIME] [--idle-timeout=TIME]
       [--freeze=UNIT]... [--stop-after=TIME] [--reclaim]
       [--stay-awake=TIME] [--calendar=PATH] [--give-way] [--busy-cpu=PERCENT]
       [--by-data] [--probe=GLOB]... [--ignore-agent=GLOB]...
       [--waiting-page --wake-times=PATH --wake-result=PATH
       [--waiting-page-file=PATH]]
       [--start=UNIT|PATH] [--start-timeout=TIME] [--drain-timeout=TIME] [--stand-in=PATH]
       --forward=LISTEN=TARGET ...
       zerolet-proxy --container=UNIT --native [--idle-timeout=TIME]
       [--start-timeout=TIME]
       zerolet-proxy --open
       zerolet-proxy --waker
       zerolet-proxy --enter --container=UNIT --client=UNIT
       [--freeze=UNIT]... [--pidfile=PATH [--conmon] | --infra]
       zerolet-proxy --thaw --freeze=UNIT...
       zerolet-proxy --help | --version

Serves the sockets that systemd passes (LISTEN_FDS), holds each connection
until the container's app accepts it, and exits when idle. With --native
the app accepts from the sockets itself, and zerolet-proxy only counts its
connections. It leaves the sockets shut when it exits; --open opens them when
the container is gone. With --enter it makes sockets inside a rootful
container for its proxy, which connects to the passed socket. With --waker it
lets a proxy that connects to the passed socket know that the container's start
is over. With --freeze=
it does not exit when idle: it freezes the container, and thaws it for the
next client. --thaw does so for whoever is going to stop the container.

  --container=UNIT      the container's service unit, for example httpd.service
  --member=UNIT         the service unit of a container in the pod that
                        --container= is; repeatable
  --pidfile=PATH        file with the container's pid (podman run --pidfile=);
                        targets are then inside its network namespace
  --conmon              the pid is that of conmon, which has started the
                        container's process: so it is of a pod
  --infra               targets are inside the network of the infra container
                        whose conmon is in the unit: so it is of a .kube file
  --entry=PATH          socket of the entry, zerolet-proxy --enter, which makes
                        the sockets inside in place of this process, looks
                        for podman-exec(1), and opens what freezes a container
  --entry-outside=PATH  likewise, where the targets are not inside
  --client=UNIT         the service unit of the proxy that the entry serves
  --stand-in=PATH       the passed socket to which the container's stand-in brings
                        the sockets that it listens on
  --host-network        targets are in the proxy's own network: a process there
                        that is not in the container's unit gets nothing
  --ready-check=CHECK   none: the app is ready once it accepts; http:/PATH: once
                        a GET of it on the first target has a status 2xx or 3xx;
                        without it, once it accepts and does not reset at once
  --started=PATH        a file that is new when the container is, for http;
                        repeatable, for those of a pod
  --proxy-protocol=V    v1 or v2: tell the app who each client is
  --client-address=WHOSE
                        client: the app sees each client's own address where
                        it has a network namespace of its own; proxy: it sees
                        the container's (client, or proxy with --proxy-protocol)
  --max-connections=N   accept no more than N at a time; 0: no limit
  --allow-from=PREFIX   serve clients from there only, for example 192.0.2.0/24;
                        repeatable
  --volume=DIRECTORY    is mounted into the container: no symbolic link is
                        followed from there to a unix socket; without any, none
                        on the whole path; repeatable
  --start=UNIT|PATH     has the user's manager start this unit for the first
                        client who may wake the container, and waits for it; or
                        connects to this socket of --waker, and waits for its end
  --by-data             who says nothing wakes nothing, and is no use
  --probe=GLOB          a request of HTTP for such a path is answered while the
                        container sleeps, wakes nothing, and is no use; repeatable
  --ignore-agent=GLOB   so is one of such a User-Agent; repeatable
  --waiting-page        show browsers a page while the container starts
  --waiting-page-file=PATH
                        another one than the proxy's own
  --wake-times=PATH     a file to remember how long the last wakes took
  --wake-result=PATH    a file that tells how the container has ended
  --connection-idle-timeout=TIME
                        a connection without a byte for this long counts as
                        ended, and is closed when the proxy exits (infinity)
  --idle-timeout=TIME   exit after this long without a connection (2m0s)
  --freeze=UNIT         freeze the unit's container when idle; repeatable, in the
                        order in which they freeze
  --stop-after=TIME     exit after having been frozen for this long (1h0m0s)
  --reclaim             have the kernel reclaim the memory of what is frozen
  --stay-awake=TIME     exit no earlier than this long after the start, or after
                        the last call of the calendar
  --calendar=PATH       a file that is touched when a calendar calls: that is a
                        use
  --give-way            SIGCONT: let nobody else in, and exit once nobody is
                        connected
  --busy-cpu=PERCENT    a container that uses more of a processor is not idle
  --start-timeout=TIME  how long a connection is held, from its accept (5m0s)
  --drain-timeout=TIME  how long SIGTERM lets open connections finish (10s)
  --forward=LISTEN=TARGET
                        LISTEN is the local address of a passed socket,
                        TARGET where the app listens: [::]:8080=127.0.0.1:80,
                        unix:/run/web.sock=unix:/run/app.sock,
                        network:DEVICE:80=127.0.0.1:80, of the stand-in.
                        [::] and 0.0.0.0 mean the same in LISTEN

TIME is written as in 1m30s, 500ms or infinity.

exit status: 0 idle, or drained after SIGTERM; 1 failure; 64 usage;
78 the passed sockets do not suit
`
