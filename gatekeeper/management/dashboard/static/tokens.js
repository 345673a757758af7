// Cached tokens: what was exchanged for a credential, and its revocation. They may be many, and are
// secrets, some of them: they are fetched when somebody asks for them, and the tokens are not shown.

import { call, get, path } from "./api.js";
import { confirm, labelled, make, say } from "./dom.js";
import { Section, attempt } from "./section.js";
import { Table } from "./table.js";

const REVOKED = "0";
const MOST = 500;
const SHOWN = 40; // a fingerprint has 32

export class Tokens {
  #section = new Section("tokens");
  #zones = "";
  #entries = [];
  #select = make("select", { id: "tokens-zone" });
  #find = make("input", { id: "tokens-find", type: "search", autocomplete: "off", spellcheck: false });
  #none = make("p", { className: "empty" }, "No checker keeps tokens: none is of the type `exchange`.");
  #form;
  #table = new Table({
    caption: "What a token or a revocation is kept for: credentials, by their fingerprints",
    columns: [
      { title: "Credential", value: (row) => shown(row.key) },
      { title: "State", value: (row) => (row.revoked ? "revoked" : "has a token") },
      { title: "Actions", actions: () => [{
        name: () => "Revoke",
        title: (row) => `Revoke ${shown(row.key)}`,
        hidden: (row) => row.revoked,
        run: (row) => this.#revoke(row),
      }] },
    ],
    key: (row) => row.key,
    empty: "There is no such token now.",
  });

  constructor() {
    const button = make("button", { type: "submit" }, "Show");
    this.#form = make("form", { className: "choices" },
      labelled("Of the zone", this.#select), labelled("that begin with", this.#find), button);
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.update();
    });
    this.#table.element.hidden = true;
    this.#section.content.append(this.#none, this.#form, this.#table.element);
  }

  /** Offer these zones. */
  async offer(zones) {
    await this.#section.fill(async () => {
      this.#none.hidden = zones.length > 0;
      this.#form.hidden = zones.length === 0;
      if (zones.join("\n") === this.#zones) return;
      this.#zones = zones.join("\n");
      this.#select.replaceChildren(...zones.map((zone) => make("option", { value: zone }, zone)));
    });
  }

  async update() {
    await attempt(async () => {
      this.#entries = Object.entries(await get(this.#path()));
      this.#show();
    });
  }

  #show() {
    const found = this.#entries.filter(([key]) => key.startsWith(this.#find.value));
    this.#table.element.hidden = false;
    this.#table.update(
      found.slice(0, MOST).map(([key, value]) => ({ key, revoked: value === REVOKED })), found.length > MOST);
  }

  async #revoke({ key }) {
    if (!(await confirm(`Revoke ${shown(key)}? What runs under it ends.`, "Revoke it"))) return;
    await attempt(async () => {
      await call("PATCH", this.#path(), { [key]: REVOKED });
      say(`${shown(key)} was revoked.`);
    });
    await this.update();
  }

  #path() {
    return path`api/8/http/keyvals/${this.#select.value}/`;
  }
}

const shown = (key) => (key.length > SHOWN ? `${key.slice(0, SHOWN)}… (${key.length} characters)` : key);
