// Spans and times as zerolet's own command writes them.

const minute = 60, hour = 60 * minute, day = 24 * hour;

// What a person reads at a glance: a span in its largest unit.
export function span(seconds) {
    const s = Math.max(0, seconds);
    if (s < minute)
        return `${Math.floor(s)}s`;
    if (s < hour)
        return `${Math.floor(s / minute)}min`;
    if (s < 2 * day)
        return `${Math.floor(s / hour)}h`;
    return `${Math.floor(s / day)}d`;
}

export function cold(seconds) {
    return `${seconds.toFixed(2)}s`;
}

export function count(n, what) {
    return n === 1 ? `1 ${what}` : `${n} ${what}s`;
}

export function clock(time) {
    return new Date(time).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
}

export function moment(time) {
    return new Date(time).toLocaleString();
}

// The time between two, in seconds; either is a number, or as in JSON.
export function between(from, to) {
    return (new Date(to) - new Date(from)) / 1000;
}

// The smallest of the values that so many of all do not exceed.
export function quantile(values, q) {
    const sorted = [...values].sort((a, b) => a - b);
    return sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)];
}
