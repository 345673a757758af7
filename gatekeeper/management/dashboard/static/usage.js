// Usage over time, as the store has it: by hour for a day, by day for longer.

import { get } from "./api.js";
import { Chart } from "./chart.js";
import { byId } from "./dom.js";
import * as format from "./format.js";
import { gather, sum } from "./rates.js";
import { Section } from "./section.js";

const MOST_ROWS = 10_000;
const UTC = { timeZone: "UTC" };
const hours = new Intl.DateTimeFormat("en-GB", { ...UTC, dateStyle: "medium", timeStyle: "short" });
const days = new Intl.DateTimeFormat("en-GB", { ...UTC, dateStyle: "medium" });
const hourTicks = new Intl.DateTimeFormat("en-GB", { ...UTC, timeStyle: "short" });
const dayTicks = new Intl.DateTimeFormat("en-GB", { ...UTC, day: "numeric", month: "short" });

export class Usage {
  #section = new Section("usage");
  #charts = new Map();
  #asked = 0;

  constructor() {
    for (const id of ["usage-measure", "usage-by", "usage-service", "usage-range"]) {
      byId(id).addEventListener("change", () => this.update());
    }
  }

  async update() {
    const asked = (this.#asked += 1);
    const choice = {
      measure: byId("usage-measure").value,
      by: byId("usage-by").value,
      service: byId("usage-service").value,
      range: Number(byId("usage-range").value),
    };
    await this.#section.fill(async () => {
      const step = choice.range > 1 ? "day" : "hour";
      const query = new URLSearchParams({ since: `${choice.range}d`, limit: String(MOST_ROWS) });
      query.append("by", choice.by);
      query.append("by", step);
      if (choice.service) query.set("service", choice.service);
      const { items, next } = await get(`v1/usage?${query}`);
      if (asked === this.#asked) this.#show(items, choice, step, next !== null);
    });
  }

  #show(items, { measure, by, range }, step, cut) {
    const seconds = step === "day" ? 86_400 : 3600;
    const now = Math.floor(Date.now() / 1000 / seconds) * seconds;
    const steps = step === "day" ? range : 24;
    const times = Array.from({ length: steps + 1 }, (_, i) => now - (steps - i) * seconds);
    const lines = new Map();
    for (const item of items) {
      const name = item[by] || "(none)";
      if (!lines.has(name)) lines.set(name, new Array(times.length).fill(0));
      const index = times.indexOf(Math.floor(Date.parse(item[step]) / 1000 / seconds) * seconds);
      if (index >= 0) lines.get(name)[index] += item[measure];
    }
    const most = [...lines].map(([name, values]) => ({ name, values }));
    most.sort((a, b) => sum(b.values) - sum(a.values));
    this.#chart(measure, step).show(times, gather(most));
    const total = sum(most.map((line) => sum(line.values)));
    const words = measure.startsWith("bytes") ? format.bytes(total) : format.count(total);
    this.#total.textContent = cut
      ? `The first ${format.count(MOST_ROWS)} rows: ${words}. Choose one service to see all of it.`
      : `In total: ${words}.`;
  }

  #total = document.createElement("p");

  /** The chart of one measure and step; the others are hidden. */
  #chart(measure, step) {
    const key = `${measure} ${step}`;
    if (!this.#charts.has(key)) {
      const holder = document.createElement("div");
      const name = byId("usage-measure").selectedOptions[0].textContent;
      const size = measure.startsWith("bytes");
      this.#section.content.append(holder, this.#total);
      this.#charts.set(key, { holder, chart: new Chart(holder, {
        caption: `Usage by ${step} (UTC): ${name}`,
        format: size ? format.bytes : format.compact,
        time: (seconds) => (step === "day" ? days : hours).format(seconds * 1000),
        tick: (seconds) => (step === "day" || seconds % 86_400 === 0 ? dayTicks : hourTicks).format(seconds * 1000),
        empty: "Nothing was used in this time.",
        bars: step === "day" ? 86_400 : 3600,
      }) });
    }
    for (const [other, { holder }] of this.#charts) holder.hidden = other !== key;
    return this.#charts.get(key).chart;
  }
}
