// Users: what they have used, and whether they may go on.

import { call, get, list, path } from "./api.js";
import { byId, confirm, labelled, make, say } from "./dom.js";
import * as format from "./format.js";
import { Section, attempt } from "./section.js";
import { Table } from "./table.js";

export class Users {
  #section = new Section("users");
  #table = new Table({
    caption: "Users that were made over the API or the command line, and what they used in 24 hours",
    columns: [
      { title: "User", value: (row) => row.name },
      { title: "Service", value: (row) => row.service },
      { title: "State", value: state },
      { title: "Groups", value: (row) => row.groups.join(", ") || "none" },
      { title: "Added", value: (row) => format.time(row.created) },
      { title: "Requests", value: (row) => format.count(row.used?.requests ?? 0), number: true },
      { title: "Units", value: (row) => format.count(row.used?.units ?? 0), number: true },
      { title: "Actions", actions: () => [
        {
          name: (row) => (row.disabled ? "Enable" : "Disable"),
          title: (row) => `${row.disabled ? "Enable" : "Disable"} ${row.name} of ${row.service}`,
          run: (row) => this.#disable(row, !row.disabled),
        },
        {
          name: () => "Remove",
          title: (row) => `Remove ${row.name} of ${row.service}`,
          run: (row) => this.#remove(row),
        },
      ] },
    ],
    key: (row) => JSON.stringify([row.service, row.name]),
    empty: "There is no such user. Users of a checker's own table or file are not listed here.",
  });

  constructor() {
    const select = make("select", { id: "users-service" }, make("option", { value: "" }, "all services"));
    select.addEventListener("change", () => this.update());
    this.#section.content.append(
      make("form", { className: "choices" }, labelled("Of", select)), this.#table.element);
  }

  async update() {
    await this.#section.fill(async () => {
      const service = byId("users-service").value;
      const query = service ? `?${new URLSearchParams({ service })}` : "";
      const { items, more } = await list(`v1/users${query}`);
      const used = items.length ? await usage(service) : new Map();
      this.#table.update(
        items.map((user) => ({ ...user, used: used.get(JSON.stringify([user.service, user.name])) })), more);
    });
  }

  async #disable({ service, name }, disabled) {
    await attempt(async () => {
      await call("PATCH", path`v1/services/${service}/users/${name}`, { disabled });
      say(`${name} of ${service} was ${disabled ? "disabled" : "enabled"}.`);
    });
    await this.update();
  }

  async #remove({ service, name }) {
    if (!(await confirm(`Remove ${name} of ${service}, and the keys of ${name}?`, "Remove the user"))) return;
    await attempt(async () => {
      await call("DELETE", path`v1/services/${service}/users/${name}`);
      say(`${name} of ${service} was removed.`);
    });
    await this.update();
  }
}

async function usage(service) {
  const query = new URLSearchParams({ since: "24h", limit: "10000" });
  query.append("by", "service");
  query.append("by", "user");
  if (service) query.set("service", service);
  const { items } = await get(`v1/usage?${query}`);
  return new Map(items.map((item) => [JSON.stringify([item.service, item.user]), item]));
}

/** What a user's or a key's state is, in words. */
export function state(row) {
  if (row.disabled) return "disabled";
  if (row.expires === null) return "good";
  return `${Date.parse(row.expires) <= Date.now() ? "expired" : "good until"} ${format.time(row.expires)}`;
}
