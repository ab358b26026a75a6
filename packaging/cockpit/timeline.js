import { svg } from "./dom.js";
import { between, clock, cold, count, moment, quantile, span, took } from "./words.js";

const minute = 60 * 1000;

// pasts are those of services by their names, all on one scale: from the first record of any to now, which is a day
// if the journal goes back that far.
export function pasts(services) {
    const end = Math.max(...services.map(past => new Date(past.to)));
    const begin = Math.min(end - minute, ...services.map(past => new Date(past.from)));
    return new Map(services.map(past => [past.name, new Past(past, begin, end)]));
}

// The last day of a service, as "zerolet history --json" tells it.
class Past {
    constructor(past, begin, end) {
        Object.assign(this, past, { begin, end });
    }

    // In words, for who does not see the picture.
    summary() {
        const total = between(this.from, this.to);
        if (total <= 0)
            return "nothing is recorded";
        const words = [count(this.wakes.length, "wake")];
        const starts = this.wakes.filter(w => !w.frozen).map(w => w.seconds);
        if (starts.length > 0)
            words.push(`cold start p50 ${cold(quantile(starts, 0.5))} p99 ${cold(quantile(starts, 0.99))}`);
        if (starts.length < this.wakes.length)
            words.push(`${this.wakes.length - starts.length} from frozen`);
        if (this.failures > 0)
            words.push(`clients turned away ${count(this.failures, "time")}`);
        const share = parts => 100 * parts.reduce((sum, p) => sum + between(p.from, p.to), 0) / total;
        if (this.frozen.length > 0)
            words.push(`frozen ${share(this.frozen).toFixed(1)} %`);
        words.push(`asleep ${(100 - share(this.awake)).toFixed(1)} % of ${span(total)}`);
        return words.join(", ");
    }

    // The newer images that could not be started.
    takenBack() {
        return this.rollbacks.map(r => `${r.image}, ${moment(r.time)}`).join("; ");
    }

    // A picture of it. Lengths are shares, so it is as wide as its place.
    bar(wide) {
        const { begin, end } = this;
        const at = time => 100 * Math.max(0, new Date(time) - begin) / (end - begin);
        const part = (name, from, to) => svg("rect", {
            class: name, x: `${at(from)}%`, width: `${Math.max(0, at(to) - at(from))}%`, y: "2", height: "12",
        });
        const parts = [];
        if (between(this.from, this.to) > 0)
            parts.push(part("asleep", this.from, this.to));
        parts.push(...this.awake.map(a => part("awake", a.from, a.to)));
        parts.push(...this.frozen.map(f => part("frozen", f.from, f.to)));
        if (wide)
            parts.push(...this.marks(at), ...hours(begin, end, at));
        return svg("svg", { class: wide ? "line wide" : "line", role: "img", "aria-label": this.summary() },
                   svg("title", {}, this.summary()), ...parts);
    }

    marks(at) {
        return this.wakes.map(w => {
            const by = w.client ? ` by ${w.client}` : "";
            return svg("circle", { class: "wake", cx: `${at(w.time)}%`, cy: "8", r: "3" },
                       svg("title", {}, `${clock(w.time)}${by} in ${took(w)}`));
        });
    }
}

// hours are marks at round times, at most eight or so.
function hours(begin, end, at) {
    const step = minute * [1, 5, 15, 60, 180].find(n => (end - begin) / minute / n < 9);
    const zone = new Date(begin).getTimezoneOffset() * minute;
    const marks = [];
    for (let t = Math.ceil((begin - zone) / step) * step + zone; t < end; t += step) {
        if (at(t) > 2 && at(t) < 98)
            marks.push(svg("text", { x: `${at(t)}%`, y: "27", "text-anchor": "middle" }, clock(t)));
    }
    return marks;
}
