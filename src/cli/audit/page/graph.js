// The graph: the nodes with the most connections. Those that send more stand left, those that receive more right, and
// every arrow crosses the space between, so that no box hides one.

const graph = {
    MAX_NODES: 30,
    MAX_LINES: 200,
    // With more edges than this, each is drawn faintly.
    DENSE: 120,
    // Counted, not drawn.
    MAX_EDGES: 200_000,

    start() {
        this.scroll = byId("graph-scroll");
        this.status = byId("graph-status");
        chosen.followers.push(() => this.redraw());
        addEventListener(
            "resize",
            settled(() => this.redraw()),
        );
    },

    redraw() {
        const { level } = chosen;
        const edges = this.edges(level);
        this.nodes = this.pick(edges);
        const shown = new Set(this.nodes);
        this.drawn = edges.filter((edge) => shown.has(edge.from) && shown.has(edge.to));
        this.known = new Set([...chosen.from, ...chosen.to]).size;
        const internal = new Map(
            this.drawn.filter((edge) => edge.from === edge.to).map((edge) => [edge.from, edge]),
        );
        const between = this.drawn.filter((edge) => edge.from !== edge.to);
        this.say(this.nodes);
        this.write(edges);
        if (this.nodes.length === 0) {
            this.scroll.replaceChildren(element("p", { class: "note" }, "No connection to draw."));
            return;
        }
        const available = this.scroll.clientWidth;
        this.box = { width: available < 500 ? 118 : 150, height: 42 };
        const places = place(this.nodes, between, this.box, available);
        this.scroll.replaceChildren(this.picture(places, between, internal));
    },

    // The allowed and undecided connections from the senders to the receivers of the filters.
    edges(level) {
        const edges = [];
        for (const { from, to, outcome } of level.pairs(chosen.from, chosen.to)) {
            if (OUTCOMES[outcome].edge) edges.push({ from, to, outcome });
            if (edges.length === this.MAX_EDGES) break;
        }
        return edges;
    },

    // The nodes with the most connections, in the order of their names.
    pick(edges) {
        const degrees = new Map();
        for (const { from, to } of edges) {
            for (const end of from === to ? [from] : [from, to])
                degrees.set(end, (degrees.get(end) ?? 0) + 1);
        }
        const byDegree = [...degrees].sort((one, other) => other[1] - one[1] || one[0] - other[0]);
        return byDegree
            .slice(0, this.MAX_NODES)
            .map(([node]) => node)
            .sort((one, other) => one - other);
    },

    say(nodes) {
        const { noun } = chosen.level;
        const some =
            nodes.length < this.known
                ? `${plural(nodes.length, noun)} with connections, of ${number(this.known)}`
                : plural(nodes.length, noun);
        this.status.textContent = `Showing ${some}`;
    },

    picture(places, between, internal) {
        const { width, height } = places;
        const svg = drawn(
            "svg",
            {
                class: between.length > this.DENSE ? "graph dense" : "graph",
                viewBox: `0 0 ${width} ${height}`,
                role: "group",
                "aria-labelledby": "graph-title",
            },
            drawn(
                "defs",
                {},
                ...["thick", "thin", "dashed"].map((edge) =>
                    drawn(
                        "marker",
                        {
                            id: `arrow-${edge}`,
                            class: `arrow ${edge}`,
                            viewBox: "0 0 8 8",
                            refX: 7,
                            refY: 4,
                            markerUnits: "userSpaceOnUse",
                            markerWidth: 9,
                            markerHeight: 9,
                            orient: "auto-start-reverse",
                        },
                        drawn("path", { d: "M0 0L8 4L0 8z" }),
                    ),
                ),
            ),
        );
        // Below four fifths of its size the text is too small.
        svg.style.maxWidth = `${width}px`;
        svg.style.minWidth = `${Math.round(width * 0.8)}px`;
        for (const edge of between) svg.append(this.line(edge, places));
        places.nodes.forEach((node, position) => svg.append(this.node(node, position, places, internal)));
        const nodeOf = (event) => event.target.closest?.(".node");
        svg.addEventListener("mouseover", (event) => this.light(svg, nodeOf(event)));
        svg.addEventListener("mouseleave", () => this.light(svg, null));
        svg.addEventListener("focusin", (event) => this.light(svg, nodeOf(event)));
        svg.addEventListener("focusout", () => this.light(svg, null));
        svg.addEventListener("keydown", (event) => this.key(event, svg));
        return svg;
    },

    line({ from, to, outcome }, { at }) {
        const [one, other] = [at.get(from), at.get(to)];
        // Towards the middle, deeper the further apart two nodes of one side are.
        const across = one.side !== other.side;
        const reach = across ? Math.abs(one.x - other.x) / 2 : 34 + Math.abs(one.y - other.y) / 3;
        const tip = other.x - other.side * 2;
        const leave = `${one.x - one.side * reach} ${one.y}`;
        const arrive = `${tip - other.side * reach} ${other.y}`;
        const d = `M${one.x} ${one.y}C${leave} ${arrive} ${tip} ${other.y}`;
        const { edge } = OUTCOMES[outcome];
        return drawn("path", {
            class: `edge ${edge}`,
            d,
            "marker-end": `url(#arrow-${edge})`,
            "data-from": from,
            "data-to": to,
        });
    },

    node(index, position, { at }, internal) {
        const { level } = chosen;
        const node = level.nodes[index];
        const { x, y, side } = at.get(index);
        const { width, height } = this.box;
        const isWorkload = level === levels.workloads;
        const name = isWorkload ? within(node).split("/").at(-1) : node.name;
        const inside = internal.get(index);
        const fact = isWorkload
            ? node.namespace
            : plural(node.pods, "pod") + (inside ? ` · inside: ${inside.outcome}` : "");
        const short = (text, most) =>
            [...text].length > most ? [...text].slice(0, most - 1).join("") + "…" : text;
        return drawn(
            "g",
            {
                class: "node",
                role: "img",
                tabindex: position === 0 ? "0" : "-1",
                "data-node": index,
                transform: `translate(${side < 0 ? x - width : x} ${y - height / 2})`,
                "aria-label": this.reading(index),
            },
            drawn("title", {}, node.name),
            drawn("rect", { width, height, rx: 6 }),
            drawn("text", { x: 10, y: 17, class: "name" }, short(name, Math.floor(width / 8.3))),
            drawn("text", { x: 10, y: 32, class: "fact" }, short(fact, Math.floor(width / 6.2))),
        );
    },

    // What a node reaches and what reaches it, as text.
    reading(index) {
        const { nodes } = chosen.level;
        const names = (ends) => {
            const list = ends.filter((end) => end !== index).map((end) => nodes[end].name);
            const more = list.length > 6 ? ` and ${list.length - 6} more` : "";
            return list.length === 0 ? "nothing else" : list.slice(0, 6).join(", ") + more;
        };
        const to = names(this.drawn.filter((edge) => edge.from === index).map((edge) => edge.to));
        const from = names(this.drawn.filter((edge) => edge.to === index).map((edge) => edge.from));
        const own = this.drawn.find((edge) => edge.from === index && edge.to === index);
        const itself = own ? `; inside: ${OUTCOMES[own.outcome].word}` : "";
        return `${nodes[index].name} reaches ${to}; reached by ${from}${itself}`;
    },

    light(svg, node) {
        svg.classList.toggle("lit", node !== null && node !== undefined);
        for (const part of svg.querySelectorAll(".on")) part.classList.remove("on");
        if (!node) {
            this.say(this.nodes);
            return;
        }
        const index = node.dataset.node;
        for (const edge of svg.querySelectorAll(".edge")) {
            const ends = [edge.dataset.from, edge.dataset.to];
            if (!ends.includes(index)) continue;
            edge.classList.add("on");
            for (const end of ends) svg.querySelector(`[data-node="${end}"]`).classList.add("on");
        }
        node.classList.add("on");
        this.status.textContent = this.reading(Number(index));
    },

    key(event, svg) {
        const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
        if (!step) return;
        const nodes = [...svg.querySelectorAll(".node")];
        const next = nodes[nodes.indexOf(event.target) + step];
        if (!next) return;
        event.target.setAttribute("tabindex", "-1");
        next.setAttribute("tabindex", "0");
        next.focus();
        event.preventDefault();
    },

    write(edges) {
        const { level } = chosen;
        const rows = edges.slice(0, this.MAX_LINES).map(({ from, to }) => {
            const cell = level.cell(from, to);
            return element(
                "tr",
                {},
                element("th", { scope: "row" }, named(level.nodes[from].name)),
                element("td", {}, named(level.nodes[to].name)),
                element("td", {}, OUTCOMES[cell.outcome].word),
                element("td", {}, cell.ports),
            );
        });
        const head = ["From", "To", "Outcome", "Ports"].map((name) => element("th", { scope: "col" }, name));
        const note = element(
            "p",
            { class: "note" },
            `Showing ${number(rows.length)} of ${plural(edges.length, "connection")}`,
        );
        const table = element(
            "table",
            { class: "rows" },
            element("thead", {}, element("tr", {}, ...head)),
            element("tbody", {}, ...rows),
        );
        byId("graph-text").replaceChildren(
            note,
            element(
                "div",
                { class: "scroll", tabindex: "0", role: "region", "aria-label": "Connections as text" },
                table,
            ),
        );
    },
};

// Returns the nodes in drawing order, the places where their arrows start and end, and the size of the picture.
function place(nodes, edges, box, available) {
    const surplus = new Map(nodes.map((node) => [node, 0]));
    for (const { from, to } of edges) {
        surplus.set(from, surplus.get(from) + 1);
        surplus.set(to, surplus.get(to) - 1);
    }
    const order = [...nodes].sort((one, other) => surplus.get(other) - surplus.get(one) || one - other);
    const half = Math.ceil(order.length / 2);
    const sides = [order.slice(0, half), order.slice(half)];
    untangle(sides, edges);
    const [margin, pitch] = [8, box.height + 16];
    const middle = Math.min(Math.max(available - 2 * (box.width + margin), 90), 420 + 8 * half);
    const height = half * pitch - 16 + 2 * margin;
    const at = new Map();
    sides.forEach((column, position) => {
        const side = position === 0 ? -1 : 1;
        const x = margin + box.width + position * middle;
        const top = (height - column.length * pitch + 16) / 2 + box.height / 2;
        column.forEach((node, row) => at.set(node, { x, y: top + row * pitch, side }));
    });
    return { at, nodes: sides.flat(), width: middle + 2 * (box.width + margin), height };
}

// Sorts each column by the middle of its neighbours, which removes most crossings.
function untangle(columns, edges) {
    const neighbours = new Map(columns.flat().map((node) => [node, []]));
    for (const { from, to } of edges) {
        neighbours.get(from).push(to);
        neighbours.get(to).push(from);
    }
    for (let sweep = 0; sweep < 4; sweep += 1) {
        const height = new Map(
            columns.flatMap((column) => column.map((node, row) => [node, (row + 0.5) / column.length])),
        );
        for (const column of columns) {
            const middle = (node) => {
                const heights = neighbours.get(node).map((other) => height.get(other));
                return heights.length === 0
                    ? 0.5
                    : heights.reduce((sum, value) => sum + value, 0) / heights.length;
            };
            const wanted = new Map(column.map((node) => [node, middle(node)]));
            column.sort((one, other) => wanted.get(one) - wanted.get(other));
        }
    }
}

graph.start();
chosen.start();
