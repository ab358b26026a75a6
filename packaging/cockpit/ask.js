/* global cockpit */

// All that the page knows, and all that it does, is an answer of the zerolet command: one process for each
// question. docs/json.md describes the answers.

const version = 1;

export class Trouble extends Error {}

// System is what is seen with administrative access if there is any, and asked for by those who may not.
function rights(manager, needed) {
    if (manager === "user")
        return {};
    return { superuser: needed ? "require" : "try" };
}

// run is the output of a program, whatever its exit status.
function run(command, options) {
    return new Promise((resolve, reject) => {
        cockpit.spawn(command, { err: "message", environ: ["LC_ALL=C.UTF-8"], ...options })
                .then(output => resolve({ output, failure: null }), (failure, output) => {
                    if (failure.problem === "not-found")
                        reject(new Trouble(`${command[0]} is not installed.`));
                    else if (failure.problem)
                        reject(new Trouble(failure.message || failure.problem));
                    else
                        resolve({ output: output || "", failure });
                });
    });
}

async function json(command, options) {
    const { output, failure } = await run(command, options);
    if (!output.trim())
        throw new Trouble(failure ? failure.message : `${command.join(" ")} has said nothing.`);
    const answer = JSON.parse(output);
    if (answer.version !== version)
        throw new Trouble(`zerolet ${command[1]} speaks version ${answer.version}: upgrade zerolet-cockpit.`);
    return answer;
}

export function ask(manager, verb, ...options) {
    return json(["zerolet", verb, `--${manager}`, "--json", ...options], rights(manager, false));
}

// act wakes a service or puts it to sleep, and returns what became of it.
export async function act(manager, verb, name, ...options) {
    const command = ["zerolet", verb, `--${manager}`, "--json", ...options, "--", name];
    const answer = await json(command, rights(manager, true));
    return answer.services[0];
}

// mend runs a command that the doctor has offered, and returns what that has said.
export async function mend(manager, command) {
    const { output, failure } = await run(command, rights(manager, true));
    if (failure)
        throw new Trouble(failure.message);
    return output.trim();
}
