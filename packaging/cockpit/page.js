/* global cockpit */

import { act, ask, mend } from "./ask.js";
import { Rows, element, setText } from "./dom.js";
import { Problems } from "./problems.js";
import { ServiceRow } from "./service.js";
import { pasts } from "./timeline.js";
import { count } from "./words.js";

const $ = id => document.getElementById(id);

// How often is asked, in seconds after the last answer.
const often = 3, seldom = 60;

const page = {
    manager: null, // "system" or "user"
    admin: cockpit.permission({ admin: true }),
    services: null, // as zerolet status --json has them
    now: null, // when that was so
    pasts: new Map(), // of the last day, by name
    failing: "", // what was wrong when the doctor was asked
};

const rows = new Rows($("services"), service => new ServiceRow(service.name, deed));
const problems = new Problems($("diagnostics"), $("findings"), $("health"), mendFinding);

// alone has a question asked once at a time: who asks meanwhile has it asked anew after the answer.
function alone(question) {
    let asking = false, again = false;

    return async function ask() {
        again = true;
        if (asking)
            return;
        asking = true;
        while (again) {
            again = false;
            await question();
        }
        asking = false;
    };
}

// every asks some time after each answer, too. While nobody sees the page it asks nothing.
function every(seconds, question) {
    let timer = null;

    const ask = alone(async () => {
        window.clearTimeout(timer);
        await question();
        if (!cockpit.hidden)
            timer = window.setTimeout(ask, seconds * 1000);
    });

    cockpit.addEventListener("visibilitychange", () => {
        window.clearTimeout(timer);
        if (!cockpit.hidden && page.manager)
            ask();
    });
    return ask;
}

// answered asks about the manager that is looked at, and has nobody hear what comes too late for that.
async function answered(question, hear) {
    const manager = page.manager;
    try {
        const answer = await question(manager);
        if (manager === page.manager)
            hear(answer);
        return true;
    } catch (error) {
        if (manager === page.manager)
            trouble(error.message);
        return false;
    }
}

const askStatus = every(often, () => answered(manager => ask(manager, "status"), status => {
    page.services = status.services;
    page.now = status.now;
    trouble("");
    show();
    const failing = status.services.map(s => s.error || s.update || "").join("\n");
    if (failing !== page.failing) {
        page.failing = failing;
        askProblems();
    }
}));

const askPasts = every(seldom, () => answered(manager => ask(manager, "history"), history => {
    page.pasts = pasts(history.services);
    show();
}));

const askCheck = every(seldom, () => answered(manager => ask(manager, "check"), report => {
    problems.showFiles(report.diagnostics);
}));

// What takes the doctor longest is to ask Podman for each image: only when something has changed, or somebody
// wants to know.
const askDoctor = alone(async () => {
    const known = await answered(manager => ask(manager, "doctor"), report => {
        problems.showFindings(report.findings);
    });
    if (!known)
        problems.showFindings(null);
});

function askProblems() {
    problems.look();
    askCheck();
    askDoctor();
}

function askAll() {
    askStatus();
    askPasts();
    askProblems();
}

function trouble(text) {
    $("trouble").hidden = !text;
    setText($("trouble"), text);
}

// tell adds what was done to the log above, where screen readers read it.
function tell(kind, text, hint) {
    const note = element("div", { class: `alert ${kind}` }, element("p", {}, text));
    if (hint)
        note.append(element("pre", {}, hint));
    const close = () => note.remove();
    note.append(element("button", { type: "button", class: "close", "aria-label": "Close", click: close }, "×"));
    $("told").querySelectorAll(".success").forEach(old => old.remove());
    $("told").append(note);
    while ($("told").childElementCount > 3)
        $("told").firstElementChild.remove();
}

function mayAct() {
    return page.manager === "user" || page.admin.allowed === true;
}

function show() {
    if (!page.services)
        return;
    const words = $("filter").value.toLowerCase().split(/\s+/).filter(w => w);
    const all = page.services.map(service => {
        const text = [service.name, service.state, ...service.listen].join(" ").toLowerCase();
        return { ...service, past: page.pasts.get(service.name), seen: words.every(w => text.includes(w)) };
    });
    const view = { now: page.now, mayAct: mayAct() };
    rows.update(all.map(service => ({ ...service, view })), service => service.name);
    const seen = all.filter(service => service.seen);
    setText($("count"), counted(seen));
    $("empty").hidden = seen.length > 0;
    setText($("empty"), page.services.length > 0
        ? "No service is like that."
        : "No container is scaled: add a [ScaleToZero] section to a .container file, then zerolet apply.");
    $("page").setAttribute("aria-busy", "false");
}

function counted(seen) {
    const states = new Map();
    seen.forEach(s => states.set(s.state, (states.get(s.state) || 0) + 1));
    const all = page.services.length;
    const of = seen.length < all ? `${seen.length} of ${count(all, "service")}` : count(all, "service");
    const words = [...states].sort().map(([state, n]) => `${n} ${state}`);
    return words.length > 0 ? `${of}: ${words.join(", ")}` : of;
}

// deed wakes a service, or puts it to sleep. Who uses it is cut off only if the person wants that.
async function deed(service, verb) {
    const manager = page.manager;
    try {
        let done = await act(manager, verb, service.name);
        if (done.result === "busy") {
            const text = `${done.message}. What does not end within 10 s is cut off.`;
            if (!await confirmed({ title: `Put ${service.name} to sleep?`, text, what: "Cut off" }))
                return;
            done = await act(manager, verb, service.name, "--force");
        }
        tell(done.result === "failed" ? "danger" : "success", `${done.name}: ${done.message}`, done.hint);
    } catch (error) {
        tell("danger", `${service.name}: ${error.message}`);
    }
    askStatus();
    askPasts();
}

async function mendFinding(finding) {
    const command = finding.command.join(" ");
    const what = page.manager === "user" ? "Run" : "Run as root";
    if (!await confirmed({ title: "Mend this?", text: finding.message, command, what }))
        return;
    try {
        tell("success", `${command}: done`, await mend(page.manager, finding.command));
    } catch (error) {
        tell("danger", `${command}: ${error.message}`);
    }
    askAll();
}

function confirmed({ title, text, command, what }) {
    const dialog = $("dialog");
    setText($("dialog-title"), title);
    setText($("dialog-text"), text);
    setText($("dialog-command"), command || "");
    $("dialog-command").hidden = !command;
    setText($("dialog-do"), what);
    dialog.returnValue = "";
    dialog.showModal();
    return new Promise(resolve => {
        dialog.addEventListener("close", () => resolve(dialog.returnValue === "do"), { once: true });
    });
}

// turn shows the manager that the address names, once it is known what the user may do.
function turn() {
    const manager = cockpit.location.path[0] === "user" ? "user" : "system";
    if (manager === page.manager || page.admin.allowed === null)
        return;
    Object.assign(page, { manager, services: null, now: null, pasts: new Map(), failing: "" });
    for (const name of ["system", "user"])
        $(name).setAttribute("aria-pressed", String(name === manager));
    rows.update([], s => s.name);
    setText($("count"), "");
    $("empty").hidden = true;
    $("page").setAttribute("aria-busy", "true");
    $("told").replaceChildren();
    problems.clear();
    limit();
    askAll();
}

function limit() {
    $("limited").hidden = mayAct();
    problems.allow(mayAct());
    show();
}

for (const name of ["system", "user"])
    $(name).addEventListener("click", () => cockpit.location.go([name]));
$("filter").addEventListener("input", show);
$("look").addEventListener("click", askProblems);
cockpit.addEventListener("locationchanged", turn);
page.admin.addEventListener("changed", () => {
    if (!page.manager)
        turn();
    else {
        limit();
        askAll();
    }
});
// Root's own user manager is nobody's.
cockpit.user().then(user => { $("managers").hidden = user.id === 0; });
turn();
