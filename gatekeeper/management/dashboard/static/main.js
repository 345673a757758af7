// The page: logging in and out, and what is looked at how often.

import { call, get, useSession } from "./api.js";
import { byId, say, setText } from "./dom.js";
import { Credits } from "./credits.js";
import { Exchanges } from "./exchanges.js";
import { Health } from "./health.js";
import { Keys } from "./keys.js";
import { Live } from "./live.js";
import { Services } from "./services.js";
import { Tokens } from "./tokens.js";
import { Usage } from "./usage.js";
import { Users } from "./users.js";

/** The running looks, each with its pause in seconds; empty as long as nobody is logged in. */
let watches = [];

function watch(seconds, look) {
  const watched = { timer: 0, ended: false };
  const run = async () => {
    try {
      if (!document.hidden) await look(); // a session that nobody looks at may end
    } finally {
      if (!watched.ended) watched.timer = setTimeout(run, seconds * 1000);
    }
  };
  watches.push(watched);
  run();
}

function begin() {
  byId("opening").hidden = byId("log-in").hidden = true;
  byId("dashboard").hidden = false;
  if (!begin.parts) {
    const live = new Live((numbers) => {
      begin.parts.services.count(numbers.services);
      begin.parts.tokens.offer(numbers.zones);
    });
    begin.parts = {
      live,
      health: new Health((...what) => live.tile(...what)),
      usage: new Usage(),
      exchanges: new Exchanges(),
      users: new Users(),
      services: new Services(),
      keys: new Keys(),
      tokens: new Tokens(),
      credits: new Credits(),
    };
  }
  const { live, health, usage, exchanges, users, services, keys, credits } = begin.parts;
  watch(2, () => live.update());
  watch(2, () => exchanges.update());
  watch(5, () => health.update());
  watch(5, () => usage.update());
  watch(5, () => users.update());
  watch(5, () => keys.update());
  watch(5, () => services.update());
  watch(5, () => credits.update());
}

function end() {
  for (const watched of watches) {
    watched.ended = true;
    clearTimeout(watched.timer);
  }
  watches = [];
  useSession("");
}

function showLogIn(problem) {
  byId("opening").hidden = byId("dashboard").hidden = byId("log-out").hidden = true;
  byId("state").hidden = true;
  byId("log-in").hidden = false;
  tell(problem);
  byId("token").focus();
}

function tell(problem) {
  byId("log-in-problem").hidden = !problem;
  setText(byId("log-in-problem"), problem);
}

async function logIn(event) {
  event.preventDefault();
  const field = byId("token");
  const button = byId("log-in").querySelector("button");
  button.disabled = true;
  try {
    const { csrf } = await call("POST", "dashboard/session", { token: field.value });
    field.value = "";
    useSession(csrf);
    byId("log-out").hidden = false;
    begin();
    byId("main").focus();
    say("You are logged in.");
  } catch (error) {
    tell(error.status === 401 ? "That is not the management token." : error.message);
    field.select();
  }
  button.disabled = false;
}

async function logOut() {
  try {
    await call("DELETE", "dashboard/session");
  } finally {
    location.reload(); // nothing of what was shown stays
  }
}

async function open() {
  let session;
  try {
    session = await get("dashboard/session");
  } catch (error) {
    say(`${error.message} It is tried again.`);
    setTimeout(open, 5000);
    return;
  }
  say("");
  useSession(session.csrf);
  byId("open").hidden = session.token_needed;
  byId("log-out").hidden = !(session.token_needed && session.logged_in);
  if (session.logged_in) begin();
  else showLogIn("");
}

window.addEventListener("logged-out", () => {
  if (!watches.length) return;
  end();
  showLogIn("The session has ended. Log in again.");
});
for (const form of document.querySelectorAll("form.choices")) {
  form.addEventListener("submit", (event) => event.preventDefault());
}
byId("log-in").addEventListener("submit", logIn);
byId("log-out").addEventListener("click", logOut);
open();
