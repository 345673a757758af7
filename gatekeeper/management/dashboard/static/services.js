// What is served, and its removal where it was made over the API.

import { call, list, path } from "./api.js";
import { byId, confirm, make, say } from "./dom.js";
import * as format from "./format.js";
import { Section, attempt } from "./section.js";
import { Table } from "./table.js";

export class Services {
  #section = new Section("services");
  #numbers = {};
  #known = "";
  #table = new Table({
    caption: "What is served",
    columns: [
      { title: "Service", value: (row) => row.name },
      { title: "Found at", value: (row) => `${row.hosts?.join(", ") || "any host"} ${row.from}` },
      { title: "Goes to", value: (row) => [row.to].flat().join(", ") },
      { title: "Checkers", value: (row) => row.checkers?.join(", ") || "none: it is public" },
      { title: "Made", value: (row) => (row.origin === "api" ? `over the API, ${format.time(row.created)}` : "in the configuration") },
      { title: "Requests", value: (row) => format.count(row.requests), number: true },
      { title: "Live", value: (row) => format.count(row.live), number: true },
      { title: "Actions", actions: () => [{
        name: () => "Remove",
        title: (row) => `Remove the service ${row.name}`,
        hidden: (row) => row.origin !== "api",
        run: (row) => this.#remove(row),
      }] },
    ],
    key: (row) => row.name,
    empty: "There is no service yet. One is made in the configuration file, or over the API.",
  });

  constructor() {
    this.#section.content.append(this.#table.element);
  }

  /** Take in what dashboard/data says of services. */
  count(services) {
    this.#numbers = services;
    if (this.#shown) this.#show();
  }

  #shown = null;

  async update() {
    await this.#section.fill(async () => {
      this.#shown = await list("v1/services");
      this.#show();
      this.#offer(this.#shown.items.map((service) => service.name));
    });
  }

  #show() {
    const rows = this.#shown.items.map((service) => {
      const numbers = this.#numbers[service.name] ?? { ok: 0, others: 0, live: 0 };
      return { ...service, requests: numbers.ok + numbers.others, live: numbers.live };
    });
    this.#table.update(rows, this.#shown.more);
  }

  /** Let the services be chosen wherever one can be. */
  #offer(names) {
    if (names.join("\n") === this.#known) return;
    this.#known = names.join("\n");
    for (const select of [byId("usage-service"), byId("users-service")]) {
      const chosen = select.value;
      const all = make("option", { value: "" }, "all services");
      select.replaceChildren(all, ...names.map((name) => make("option", { value: name }, name)));
      select.value = names.includes(chosen) ? chosen : "";
    }
  }

  async #remove({ name }) {
    const question = `Remove the service ${name}, its users and their keys? What runs ends in its time.`;
    if (!(await confirm(question, "Remove it"))) return;
    await attempt(async () => {
      await call("DELETE", path`v1/services/${name}`);
      say(`The service ${name} was removed.`);
    });
    await this.update();
  }
}
