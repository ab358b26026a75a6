package wire

// The MESSAGE_ID of each kind of record that zerolet-proxy sends to the journal
// (systemd.journal-fields(7)).
const (
	WakeMessage   = "18bc3f436b2545e3a37bf46913f49bec" // the app has been reached
	SleepMessage  = "1798d871f9e74b90b835458546cb7af0" // nobody needs the container any more
	FreezeMessage = "757d6fbf26d34d029f9f743e449e0d62" // nobody needs it now, and it is frozen
	FailMessage   = "691e5ba4bf124de6a0bfd8093aaafe3d" // a client got no answer
)

// Calendar is in the place of the client's address where none has woken the
// container.
const Calendar = "calendar"

// Frozen is what a container has woken from that was not started.
const Frozen = "frozen"

// Stop is the event where a client got no answer because the proxy was stopped: that
// was asked for, and nothing has failed.
const Stop = "stop"

// The fields of these records.
const (
	FieldEvent       = "ZEROLET_EVENT"         // wake, freeze, sleep, fail, or Stop
	FieldContainer   = "ZEROLET_CONTAINER"     // the container's service unit
	FieldPeer        = "ZEROLET_PEER"          // who woke it, or got no answer
	FieldReady       = "ZEROLET_READY_USEC"    // how long the client waited, as far as the proxy knows
	FieldFrom        = "ZEROLET_FROM"          // what it has woken from: "frozen", or nothing for a start
	FieldBefore      = "ZEROLET_MEMORY_BEFORE" // of the containers when they were frozen, in bytes
	FieldAfter       = "ZEROLET_MEMORY_AFTER"  // and what was left of it when memory had been reclaimed
	FieldConnections = "ZEROLET_CONNECTIONS"   // that were accepted
	FieldBytesIn     = "ZEROLET_BYTES_IN"      // from the clients
	FieldBytesOut    = "ZEROLET_BYTES_OUT"     // to them
)
