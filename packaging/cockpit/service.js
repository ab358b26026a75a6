import { element, setAttribute, setText } from "./dom.js";
import { between, memory, moment, span, took } from "./words.js";

// The states that have a colour. What is not known here is shown as text.
const colours = {
    awake: "green", waking: "blue", stopping: "blue", frozen: "teal", failing: "red", "not listening": "red",
};

const columns = 8, lastWakes = 10;

// A service in the table: a row, one below it with what is wrong, and one with the rest if that is wanted.
export class ServiceRow {
    constructor(name, deed) {
        this.deed = deed;
        this.doing = null; // the verb that is under way
        this.shown = null; // what of the past is drawn
        this.opened = false;
        const id = `more-${name}`;
        const wrong = `wrong-${name}`;
        this.more = element("button", {
            type: "button", class: "more", click: () => this.turn(),
            "aria-expanded": "false", "aria-controls": id, "aria-describedby": wrong,
        }, name);
        this.state = element("span", { class: "label" });
        this.since = element("span", { class: "subtle" });
        this.listen = element("td");
        this.open = element("td", { class: "number" });
        this.wake = element("td");
        this.sleeps = element("td");
        this.day = element("td", { class: "day" });
        this.buttons = new Map(["wake", "sleep"].map(verb => [verb, this.button(verb, name)]));
        this.row = element("tr", { class: "service" },
                           element("th", { scope: "row" }, this.more),
                           element("td", { class: "state" }, this.state, " ", this.since),
                           this.listen, this.open, this.wake, this.sleeps, this.day,
                           element("td", { class: "actions" }, ...this.buttons.values()));
        this.reason = element("td", { colspan: columns });
        this.wrong = element("tr", { id: wrong, class: "reason", hidden: "" }, this.reason);
        this.facts = element("dl");
        this.wide = element("div", { class: "wide-line" });
        this.wakes = element("div", { class: "wakes" });
        this.details = element("tr", { id, class: "details", hidden: "" },
                               element("td", { colspan: columns }, this.wide, this.facts, this.wakes));
        this.elements = [this.row, this.wrong, this.details];
    }

    button(verb, name) {
        const text = { wake: "Wake", sleep: "Sleep" }[verb];
        return element("button", {
            type: "button", class: "button secondary", "aria-label": `${text} ${name}`, click: () => this.act(verb),
        }, text);
    }

    async act(verb) {
        if (this.doing)
            return;
        this.doing = verb;
        this.update(this.service);
        await this.deed(this.service, verb);
        this.doing = null;
        this.update(this.service);
    }

    turn() {
        this.opened = !this.opened;
        this.more.setAttribute("aria-expanded", String(this.opened));
        this.shown = null;
        this.update(this.service);
    }

    update(service) {
        this.service = service;
        this.row.hidden = !service.seen;
        const wrong = service.error || service.update || waits(service);
        this.wrong.hidden = !service.seen || !wrong;
        this.details.hidden = !service.seen || !this.opened;
        if (!service.seen)
            return;
        const { now, mayAct } = service.view;
        setText(this.state, service.state);
        setAttribute(this.state, "class", `label ${colours[service.state] || "grey"}`);
        setText(this.since, service.since ? `for ${span(between(service.since, now))}` : "");
        setText(this.reason, wrong);
        setText(this.listen, listens(service));
        setText(this.open, withoutPort(service) ? "-" : String(service.connections));
        setText(this.wake, woken(service, now));
        setText(this.sleeps, sleeps(service, now));
        this.allow(service, mayAct);
        this.draw(service);
    }

    allow(service, mayAct) {
        const still = service.state === "asleep" || service.state === "not listening" || refused(service);
        const may = { wake: service.state !== "awake" && !withoutPort(service), sleep: !still };
        const doing = { wake: "Waking …", sleep: "Stopping …" };
        for (const [verb, button] of this.buttons) {
            button.hidden = !may[verb] && this.doing !== verb;
            button.disabled = !mayAct || this.doing !== null;
            setText(button, this.doing === verb ? doing[verb] : verb === "wake" ? "Wake" : "Sleep");
        }
    }

    // The pictures change once a minute.
    draw(service) {
        if (this.opened)
            this.tell(service);
        if (this.shown === service.past)
            return;
        this.shown = service.past;
        this.day.replaceChildren(...(service.past ? [service.past.bar(false)] : []));
        if (!this.opened)
            return;
        this.wide.replaceChildren(...(service.past ? [service.past.bar(true)] : []));
        this.wakes.replaceChildren(...(service.past ? wakeTable(service) : []));
    }

    tell(service) {
        const facts = [
            ["File", service.file],
            ["Since", service.since && moment(service.since)],
            ["Listens on", service.listen.join(", ")],
            ["Nothing listens on", (service.notListening || []).join(", ")],
            ["Needed by", (service.neededBy || []).join(", ")],
            ["Containers", (service.members || []).join(", ")],
            ["Waits for", (service.waitsFor || []).join(", ")],
            ["The calendar wakes it", service.wakesAt && moment(service.wakesAt)],
            ["Frozen memory", service.memory && memory(service.memory.before, service.memory.after)],
            ["Image", service.update],
            ["Images taken back", service.past && service.past.takenBack()],
            ["Last day", service.past && service.past.summary()],
        ].filter(([, text]) => text);
        const text = JSON.stringify(facts);
        if (text === this.told)
            return;
        this.told = text;
        this.facts.replaceChildren(...facts.map(([name, value]) => {
            return element("div", {}, element("dt", {}, name), element("dd", {}, value));
        }));
    }
}

function withoutPort(service) {
    return service.listen.length === 0;
}

// Of a file with an error there is nothing to wake, nor to stop.
function refused(service) {
    return withoutPort(service) && !service.neededBy && service.state === "failing";
}

function waits(service) {
    return service.waitsFor ? `waits for its turn: ${service.waitsFor.join(", ")}` : "";
}

function listens(service) {
    if (withoutPort(service))
        return service.neededBy ? `needed by ${service.neededBy.join(", ")}` : "-";
    const shown = service.listen.slice(0, 3);
    const more = service.listen.length - shown.length;
    return shown.join(", ") + (more > 0 ? ` and ${more} more` : "");
}

function woken(service, now) {
    const last = service.lastWake;
    if (!last)
        return withoutPort(service) ? "-" : "never";
    const by = last.client ? ` by ${last.client}` : "";
    return `${span(between(last.time, now))} ago${by} in ${took(last)}`;
}

function sleeps(service, now) {
    if (service.sleepsAt)
        return span(between(now, service.sleepsAt));
    if (service.wakesAt && service.state === "asleep")
        return `wakes in ${span(between(now, service.wakesAt))}`;
    return "-";
}

function wakeTable(service) {
    const last = service.past.wakes.slice(-lastWakes).reverse();
    if (last.length === 0)
        return [];
    const head = ["Woken", "By", "Took"].map(text => element("th", { scope: "col" }, text));
    const body = last.map(w => element("tr", {}, ...[moment(w.time), w.client || "-", took(w)].map(cell)));
    return [element("table", { "aria-label": `Last wakes of ${service.name}` },
                    element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...body))];
}

function cell(text) {
    return element("td", {}, text);
}
