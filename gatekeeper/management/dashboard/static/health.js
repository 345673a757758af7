// How the daemon is: its checks, the journal, and how usage gets into the store.

import { get } from "./api.js";
import { byId, make, setText } from "./dom.js";
import * as format from "./format.js";
import { Section } from "./section.js";

const STATES = {
  ready: ["Ready", "good"],
  draining: ["Draining: the daemon is about to stop", "bad"],
  unavailable: ["Not ready", "bad"],
};

export class Health {
  #section = new Section("journal");
  #facts = new Map();
  #meter = make("meter", { min: 0, low: 0.5, high: 0.8, optimum: 0, "aria-label": "The journal is full to" });
  #list = make("dl", { className: "facts" });

  constructor(tile) {
    this.tile = tile;
    this.#section.content.append(this.#list, this.#meter);
  }

  async update() {
    await this.#section.fill(async () => this.#show(await get("v1/health")));
  }

  #show(health) {
    setText(byId("version"), health.version);
    const [words, kind] = STATES[health.status] ?? [health.status, "bad"];
    const badge = byId("state");
    badge.hidden = false;
    badge.className = `badge ${kind}`;
    setText(badge, words);
    this.#fact("Up for", format.duration(health.uptime));
    this.#fact("Clients' connections", format.count(health.connections));
    for (const { name, problem } of health.checks) {
      this.#fact(`Check: ${name}`, problem ?? "good", Boolean(problem));
    }
    this.#meter.hidden = !health.journal;
    if (!health.journal) {
      this.#fact("Journal", "Usage is not counted (usage.enabled = false).");
      return;
    }
    const { journal, flusher } = health;
    this.#fact("Journal", journalState(journal), journal.full || journal.failing);
    this.#fact("Waiting for the store", `${format.count(journal.records)} records, ${format.bytes(journal.bytes)} of ${format.bytes(journal.limit)}`);
    this.#meter.max = journal.limit;
    this.#meter.low = journal.limit * 0.5;
    this.#meter.high = journal.limit * 0.8;
    this.#meter.value = journal.bytes;
    this.#fact("Flushing", flusher.failing ? "fails; it is tried again" : "good", flusher.failing);
    this.#fact("The store had everything", `${format.duration(flusher.lag)} ago`);
    this.#fact("Batches in the store", format.count(flusher.written));
    this.#fact("Failed attempts", format.count(flusher.failures));
    this.#fact("Set aside", format.count(flusher.rejected), flusher.rejected > 0);
    this.tile("Journal", journalState(journal), journal.full || journal.failing);
    this.tile("The store is behind by", format.duration(Math.round(flusher.lag)), flusher.failing);
  }

  #fact(name, text, bad = false) {
    let shown = this.#facts.get(name);
    if (!shown) {
      shown = make("dd");
      this.#facts.set(name, shown);
      this.#list.append(make("div", {}, make("dt", {}, name), shown));
    }
    setText(shown, text);
    shown.classList.toggle("bad", bad);
  }
}

function journalState(journal) {
  if (journal.failing) return "cannot be written";
  return journal.full ? "full" : "good";
}
