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

// How long a wake took. One from frozen takes milliseconds.
export function took(wake) {
    return wake.frozen ? `${(1000 * wake.seconds).toFixed(1)}ms, frozen` : cold(wake.seconds);
}

// The memory of what is frozen, with what was left of it.
export function memory(before, after) {
    const megabytes = n => `${(n / 1e6).toFixed(1)} MB`;
    if (!before)
        return "";
    return after ? `${megabytes(before)}, ${megabytes(after)} after reclaim` : megabytes(before);
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
