// What happens now: the counters of the data plane, looked at every two seconds.

import { get } from "./api.js";
import { Chart } from "./chart.js";
import { byId, make, setText } from "./dom.js";
import * as format from "./format.js";
import { Looks, quantile, sum } from "./rates.js";
import { Section } from "./section.js";
import { Table } from "./table.js";

const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const short = new Intl.DateTimeFormat("en-GB", { timeStyle: "short" });
const hours = (seconds) => short.format(seconds * 1000);
const time = (seconds) => clock.format(seconds * 1000);
const tick = (seconds) => (seconds % 60 ? time : hours)(seconds);
const wait = "Nothing yet: the lines begin with the next numbers.";

export class Live {
  #looks = new Looks();
  #tiles = new Map();
  #sections = ["rate", "latency", "decisions"].map((id) => new Section(id));

  /** `onNumbers` is told each time what dashboard/data said. */
  constructor(onNumbers) {
    this.onNumbers = onNumbers;
    const [rate, latency, decisions] = this.#sections.map((section) => section.content);
    this.#rate = new Chart(rate, {
      caption: "Requests per second that ended, by service", format: format.compact, time, tick, empty: wait,
    });
    this.#latency = new Chart(latency, {
      caption: "Duration of half of the requests, of 95 % and of 99 %, in the 30 s before",
      format: format.duration, time, tick, empty: wait,
    });
    this.#decisions = new Chart(decisions, {
      caption: "Verdicts per second", format: format.compact, time, tick, empty: wait,
    });
    this.#checkers = new Table({
      caption: "Who decided, since the start",
      columns: [
        { title: "Service", value: (row) => row.service || "(none)" },
        { title: "Decided by", value: decider },
        { title: "Verdict", value: (row) => row.verdict },
        { title: "Times", value: (row) => format.count(row.number), number: true },
      ],
      key: (row) => JSON.stringify([row.service, row.checker, row.verdict, row.remembered]),
      empty: "No checker has decided anything yet.",
    });
    decisions.append(make("details", {}, make("summary", {}, "By checker"), this.#checkers.element));
    this.#reasons = new Table({
      caption: "Requests that were not relayed to their end, since the start",
      columns: [
        { title: "Reason", value: (row) => row.reason },
        { title: "Times", value: (row) => format.count(row.number), number: true },
      ],
      key: (row) => row.reason,
      empty: "All requests were relayed to their end.",
    });
    rate.append(make("details", {}, make("summary", {}, "What was refused, or failed"), this.#reasons.element));
  }

  #rate;
  #latency;
  #decisions;
  #checkers;
  #reasons;

  /** Show the numbers of now. */
  async update() {
    let numbers;
    for (const section of this.#sections) {
      await section.fill(async () => (numbers ??= await get("dashboard/data")));
    }
    if (numbers) this.#show(numbers);
  }

  #show(numbers) {
    this.#looks.add(numbers);
    const times = this.#looks.times;
    const { bounds, counts } = numbers.latency;
    const latency = this.#looks.latency(bounds);
    this.#rate.show(times, this.#looks.requests());
    this.#latency.show(times, latency);
    this.#decisions.show(times, this.#looks.decisions());
    this.#checkers.update(numbers.decisions);
    this.#reasons.update(Object.entries(numbers.reasons).map(([reason, number]) => ({ reason, number })));
    const services = Object.values(numbers.services);
    const rates = this.#looks.requests().map((line) => line.values.at(-1) ?? 0);
    const p95 = latency[1].values.at(-1) ?? quantile(bounds, counts, 0.95);
    this.tile("Requests per second", format.compact(sum(rates)));
    this.tile("Requests since the start", format.count(sum(services.map((s) => s.ok + s.others))));
    this.tile("Of them not relayed", format.count(sum(services.map((s) => s.others))));
    this.tile("Live exchanges", format.count(sum(services.map((s) => s.live))));
    this.tile("95 % took less than", p95 === null ? "no request yet" : format.duration(p95));
    this.onNumbers(numbers);
  }

  /** Show a number at the top. */
  tile(name, text, bad = false) {
    let shown = this.#tiles.get(name);
    if (!shown) {
      shown = make("dd");
      this.#tiles.set(name, shown);
      byId("tiles").append(make("div", {}, make("dt", {}, name), shown));
    }
    setText(shown, text);
    shown.classList.toggle("bad", bad);
  }
}

function decider(row) {
  if (row.remembered) return "a remembered verdict";
  return row.checker || "nobody: no credentials for any checker";
}
