// The two levels of the matrix and the graph: namespaces and workloads. The positions of its ends address a pair.

const data = JSON.parse(byId("data").textContent);

const OUTCOMES = {
    all: { mark: "full", edge: "thick", word: "all connections allowed" },
    some: { mark: "half", edge: "thin", word: "some connections allowed" },
    none: { mark: "empty", word: "no connection allowed" },
    allowed: { mark: "full", edge: "thin", word: "allowed" },
    blocked: { mark: "empty", word: "blocked" },
    undecided: { mark: "ask", edge: "dashed", word: "undecided" },
    unlisted: { mark: "unlisted", word: "not in this page" },
};

// The name of a workload without its namespace.
const within = ({ name, namespace }) =>
    name.startsWith(`${namespace}/`) ? name.slice(namespace.length + 1) : name;

// Leaves the kind out of `shop/deployment/web` where the rest tells the workloads apart.
function labels(nodes) {
    const short = nodes.map((node) => `${node.namespace}/${within(node).split("/").at(-1)}`);
    const uses = new Map();
    for (const name of short) uses.set(name, (uses.get(name) ?? 0) + 1);
    return short.map((name, position) => (uses.get(name) === 1 ? name : nodes[position].name));
}

class Level {
    constructor(noun, nodes, cells, otherwise, legend) {
        Object.assign(this, { noun, nodes, otherwise, legend });
        this.labels = noun === "workload" ? labels(nodes) : nodes.map((node) => node.name);
        // The outcomes that are connections, or may be some, are drawn as edges.
        this.isSparse = !OUTCOMES[otherwise.outcome].edge;
        this.cells = new Map(cells.map((cell) => [cell.from * nodes.length + cell.to, cell]));
    }

    cell(from, to) {
        return this.cells.get(from * this.nodes.length + to) ?? this.otherwise;
    }

    // The pairs between two sets of positions. Pairs with the usual outcome are left out, unless that is a connection.
    *pairs(senders, receivers) {
        if (this.isSparse) {
            const [from, to] = [new Set(senders), new Set(receivers)];
            for (const cell of this.cells.values()) if (from.has(cell.from) && to.has(cell.to)) yield cell;
            return;
        }
        for (const from of senders) for (const to of receivers) yield { ...this.cell(from, to), from, to };
    }

    outcome(from, to) {
        return OUTCOMES[this.cell(from, to).outcome];
    }

    // The outcome of a pair as one line of text.
    describe(from, to) {
        const { outcome, ports } = this.cell(from, to);
        const on = ports ? `, ${ports}` : "";
        return `${this.nodes[from].name} to ${this.nodes[to].name}: ${OUTCOMES[outcome].word}${on}`;
    }

    // The positions of the nodes whose names match a filter.
    find(filter) {
        return this.nodes.flatMap((node, position) => (matches(node.name, filter) ? [position] : []));
    }
}

function namespaceLevel() {
    const { cells, otherwise, omitted } = data.matrix;
    const rest = { outcome: omitted > 0 ? "unlisted" : otherwise, ports: "" };
    return new Level("namespace", data.namespaces, cells, rest, ["all", "some", "none", "undecided"]);
}

function workloadLevel() {
    const position = new Map(data.workloads.map((node, index) => [node.name, index]));
    const cells = data.matrix.workloads.cells
        .map((cell) => ({ ...cell, from: position.get(cell.from), to: position.get(cell.to) }))
        .filter((cell) => cell.from !== undefined && cell.to !== undefined);
    const rest = { outcome: "unlisted", ports: "" };
    return new Level("workload", data.workloads, cells, rest, ["allowed", "blocked", "undecided"]);
}

const levels = { namespaces: namespaceLevel(), workloads: workloadLevel() };

// The level and the filters that are chosen, and the parts of the page that follow them.
const chosen = {
    level: levels.namespaces,
    followers: [],

    start() {
        const form = document.querySelector("#explorer form");
        const changed = () => {
            this.level = levels[form.elements.level.value];
            const [from, to] = [byId("filter-from").value, byId("filter-to").value];
            this.from = this.level.find(from);
            this.to = this.level.find(to);
            for (const follow of this.followers) follow();
        };
        const announced = settled(() => {
            changed();
            announce(
                `${plural(this.from.length, this.level.noun)} to ${plural(this.to.length, this.level.noun)}`,
            );
        });
        form.addEventListener("input", announced);
        form.addEventListener("reset", announced);
        form.addEventListener("submit", (event) => event.preventDefault());
        byId("explorer").hidden = false;
        changed();
    },

    // Shows the workloads of two namespaces.
    showWorkloads(from, to) {
        const form = document.querySelector("#explorer form");
        form.elements.level.value = "workloads";
        byId("filter-from").value = `${from}/`;
        byId("filter-to").value = `${to}/`;
        form.dispatchEvent(new Event("input"));
    },
};
