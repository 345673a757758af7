// Charts over time, drawn by uPlot (in a canvas), with what is needed around them in the page: a
// legend that tells values, and the same numbers as a table for who cannot see the lines.

import { make, setText } from "./dom.js";

const HEIGHT = 200;
const TABLE_ROWS = 12;
const dark = matchMedia("(prefers-color-scheme: dark)");

export class Chart {
  #options;
  #plot = null;
  #names = "";
  #times = [];
  #lines = [];
  #canvas;
  #legend;
  #numbers;
  #empty;

  /** `caption` says what is shown; `format(value)` writes a value, `time(seconds)` a moment and
   * `tick(seconds)` one at the axis; `empty` is said as long as there is nothing to show;
   * `bars`: stacked bars, `bars` seconds wide; else lines. */
  constructor(parent, options) {
    this.#options = options;
    this.#canvas = make("div", { className: "plot", role: "img" });
    this.#legend = make("ul", { className: "legend", role: "list" });
    this.#empty = make("p", { className: "empty" }, options.empty);
    this.#numbers = make("details", {}, make("summary", {}, "As a table"));
    this.#numbers.addEventListener("toggle", () => this.#fillTable());
    parent.append(make("figure", {},
      make("figcaption", {}, options.caption), this.#empty, this.#canvas, this.#legend, this.#numbers));
    new ResizeObserver(() => this.#resize()).observe(this.#canvas);
    dark.addEventListener("change", () => this.#rebuild());
  }

  /** Show lines [{name, values, colour}] over `times` (seconds); null is a gap. A line without a
   * colour gets the one that its name has everywhere. */
  show(times, lines) {
    this.#times = times;
    this.#lines = coloured(lines);
    const nothing = times.length < 2 || !lines.length;
    this.#empty.hidden = !nothing;
    for (const part of [this.#canvas, this.#legend, this.#numbers]) part.hidden = nothing;
    if (nothing) return;
    const names = lines.map((line) => line.name).join("\n");
    if (!this.#plot || names !== this.#names) {
      this.#names = names;
      this.#rebuild();
    } else {
      this.#plot.setData(this.#data());
    }
    this.#tell();
    this.#fillTable();
  }

  #data() {
    if (!this.#options.bars) return [this.#times, ...this.#lines.map((line) => line.values)];
    // Each bar stands on those before it; the highest is drawn first, and the others over it.
    const below = new Array(this.#times.length).fill(0);
    const stacked = this.#lines.map((line) => line.values.map((value, i) => (below[i] += value ?? 0)));
    return [this.#times, ...stacked.reverse()];
  }

  #rebuild() {
    if (this.#canvas.hidden || !this.#lines.length) return;
    this.#plot?.destroy();
    const style = getComputedStyle(this.#canvas);
    const ink = style.getPropertyValue("--quiet");
    const grid = style.getPropertyValue("--line");
    const { bars, format } = this.#options;
    const series = this.#lines.map((line, index) => {
      const colour = style.getPropertyValue(`--colour-${line.colour}`);
      return bars
        ? { label: line.name, stroke: colour, fill: colour, width: 0, points: { show: false },
            paths: uPlot.paths.bars({ size: [0.8, 60] }) }
        : { label: line.name, stroke: colour, width: 2, points: { show: false },
            dash: index % 2 ? [6, 3] : [] };
    });
    const axis = { stroke: ink, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1 } };
    this.#plot = new uPlot({
      tzDate: bars ? (seconds) => uPlot.tzDate(new Date(seconds * 1e3), "Etc/UTC") : undefined,
      width: this.#width(),
      height: HEIGHT,
      legend: { show: false },
      cursor: { y: false, points: { show: !bars }, drag: { x: false, y: false } },
      scales: {
        x: { range: bars ? (_, from, to) => [from - bars / 2, to + bars / 2] : undefined },
        y: { range: (_, from, to) => [0, to > 0 ? to * 1.1 : 1] },
      },
      axes: [
        { ...axis, space: 60, values: (_, splits) => splits.map(this.#options.tick) },
        { ...axis, size: 64, values: (_, splits) => splits.map((value) => format(value)) },
      ],
      series: [{}, ...(bars ? series.reverse() : series)],
      hooks: { setCursor: [() => this.#tell()] },
    }, this.#data(), this.#canvas);
    this.#makeLegend();
  }

  #resize() {
    if (!this.#plot || this.#canvas.hidden) return;
    const width = this.#width();
    if (width > 0 && width !== this.#plot.width) this.#plot.setSize({ width, height: HEIGHT });
  }

  #width() {
    return Math.floor(this.#canvas.clientWidth);
  }

  #makeLegend() {
    this.#legend.replaceChildren(...this.#lines.map((line) => make("li", {},
      make("span", { className: `swatch colour-${line.colour}` }), line.name, " ", make("span", { className: "value" }))));
  }

  /** The values under the pointer, or the last ones. */
  #tell() {
    const { caption, format, time } = this.#options;
    const pointed = this.#plot?.cursor.idx;
    const index = pointed ?? this.#times.length - 1;
    const values = this.#lines.map((line) => written(line.values[index], format));
    for (const [i, item] of [...this.#legend.children].entries()) {
      setText(item.lastElementChild, values[i] ?? "");
    }
    const told = this.#lines.map((line, i) => `${line.name}: ${values[i]}`).join(", ");
    this.#canvas.setAttribute("aria-label", `${caption}. At ${time(this.#times[index])} ${told}.`);
  }

  #fillTable() {
    if (!this.#numbers.open) return;
    const { caption, format, time } = this.#options;
    const head = make("tr", {}, make("th", { scope: "col" }, "Time"),
      ...this.#lines.map((line) => make("th", { scope: "col", className: "number" }, line.name)));
    const first = Math.max(0, this.#times.length - TABLE_ROWS);
    const rows = this.#times.slice(first).map((at, i) => make("tr", {},
      make("th", { scope: "row" }, time(at)),
      ...this.#lines.map((line) =>
        make("td", { className: "number" }, written(line.values[first + i], format)))));
    const table = make("table", {}, make("caption", {}, `${caption}: the last ${rows.length}`),
      make("thead", {}, head), make("tbody", {}, ...rows.reverse()));
    const holder = make("div", { className: "sideways", tabIndex: 0, role: "region", "aria-label": caption }, table);
    const before = this.#numbers.querySelector(".sideways");
    if (!before) this.#numbers.append(holder);
    else before.replaceChildren(table);
  }
}

const COLOURS = 5;
const colours = new Map();

/** The lines with their colours: what goes by one name has one colour, in every chart. */
function coloured(lines) {
  const taken = new Set(lines.map((line) => line.colour));
  return lines.map((line) => {
    if (line.colour !== undefined) return line;
    if (!colours.has(line.name)) colours.set(line.name, colours.size % COLOURS);
    let colour = colours.get(line.name);
    for (let i = 0; taken.has(colour) && i < COLOURS; i += 1) colour = (colour + 1) % COLOURS;
    taken.add(colour);
    return { ...line, colour };
  });
}

const written = (value, format) => (value === null || value === undefined ? "none" : format(value));
