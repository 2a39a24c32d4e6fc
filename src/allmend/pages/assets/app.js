// The page of one notebook: sends the form, follows the run, shows what it prints. Everything a notebook wrote arrives
// as text or in frames of its own; nothing of it is ever made into markup here.
const main = document.querySelector("main");
const base = main.dataset.base;
const at = (id) => document.getElementById(id);
const form = at("form");
let run = null;
let source = null;

const make = (tag, words, kind) => {
  const made = document.createElement(tag);
  if (words !== undefined) made.textContent = words;
  if (kind) made.className = kind;
  return made;
};

const remember = (key, value) => { try { return value === undefined ? localStorage.getItem(key) : localStorage.setItem(key, value); } catch { return null; } };

// What it does is shown first, and the run waits until a person has said that they read it.
const seen = `seen:${main.dataset.seen}`;
const showPlan = () => {
  const done = remember(seen) === "yes";
  at("plan").open = !done;
  at("read").hidden = done;
  at("run").disabled = !done;
};
at("read").addEventListener("click", () => { remember(seen, "yes"); showPlan(); at("run").disabled = false; at("run").focus(); });
showPlan();

const fields = () => [...form.querySelectorAll("[data-type]")];
const read = (field) => field.type === "checkbox" ? String(field.checked) : field.value;
const write = (field, value) => {
  if (field.type === "checkbox") field.checked = value === true || value === "true";
  else field.value = typeof value === "string" ? value : JSON.stringify(value);
  field.dispatchEvent(new Event("input"));
};
for (const field of fields()) {
  const shown = field.parentElement.querySelector("output");
  if (shown) field.addEventListener("input", () => { shown.textContent = field.value; });
}

const wrong = (names) => {
  for (const place of form.querySelectorAll(".field[data-name]")) {
    const words = names[place.dataset.name];
    place.classList.toggle("wrong", Boolean(words));
    const line = place.querySelector("p.wrong");
    line.hidden = !words;
    line.textContent = words ?? "";
  }
  const first = Object.keys(names)[0];
  if (first) form.querySelector(`[data-name="${CSS.escape(first)}"] [data-type]`)?.focus();
};

const tell = (words) => { at("state").textContent = words; };
const say = async (answer) => { try { return await answer.json(); } catch { return { error: { message: answer.statusText } }; } };

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  wrong({});
  at("run").disabled = true;
  const uploads = [];
  for (const file of at("files")?.files ?? []) {
    const answer = await fetch(`${base}/uploads?name=${encodeURIComponent(file.name)}`, { method: "POST", body: file, headers: { "Content-Type": "application/octet-stream" } });
    const words = await say(answer);
    if (!answer.ok) { tell(words.error.message); at("run").disabled = false; return; }
    uploads.push(words.id);
  }
  const text = Object.fromEntries(fields().map((field) => [field.name, read(field)]));
  const answer = await fetch(`${base}/runs`, {
    method: "POST",
    headers: { "Content-Type": "application/json", "Idempotency-Key": crypto.randomUUID?.() ?? String(Math.random()) },
    body: JSON.stringify({ text, uploads }),
  });
  const words = await say(answer);
  if (!answer.ok) {
    wrong(words.error.fields ?? {});
    tell(words.error.message);
    at("run").disabled = false;
    return;
  }
  history.pushState(null, "", `${base}/runs/${words.id}`);
  follow(words.id);
});

at("stop").addEventListener("click", () => fetch(`${base}/runs/${run}/cancel`, { method: "POST" }));

const place = (cell) => {
  let found = document.getElementById(`cell-${cell}`);
  if (!found) {
    found = make("div", undefined, "cell running");
    found.id = `cell-${cell}`;
    found.append(make("p", `cell ${cell}`, "dim"), make("div"));
    at("results").append(found);
  }
  return found;
};

const seconds = (number) => number < 60 ? `${number.toFixed(number < 10 ? 1 : 0)} s` : `${Math.floor(number / 60)} min ${Math.round(number % 60)} s`;

// Of a line that was written over, as progress bars do, the last state; an open carriage return waits for what comes.
const settle = (text) => {
  if (!text.includes("\r")) return text;
  const lines = text.split("\n");
  return lines.map((line, n) => {
    let end = line.length;
    while (end && line[end - 1] === "\r") end -= 1;
    const kept = line.slice(line.lastIndexOf("\r", end - 1) + 1, end);
    return n === lines.length - 1 && end < line.length ? `${kept}\r` : kept;
  }).join("\n");
};

const hear = {
  place: ({ place, estimate }) => tell(place === 0 ? "next in the queue" : `${place} before you${estimate ? `, about ${seconds(estimate)}` : ""}`),
  started: () => { tell("running"); at("progress").hidden = false; },
  cell_started: ({ cell, line }) => { tell(`cell ${cell}: ${line}`); place(cell).querySelector("p").textContent = `cell ${cell}: ${line}`; },
  output: ({ cell, text }) => {
    const box = place(cell).lastElementChild;
    let pre = box.querySelector("pre.live");
    if (!pre) { pre = make("pre", "", "live"); box.append(pre); }
    const said = pre.textContent + text.replace(/\x1b\[[0-9;?]*[ -\/]*[@-~]|\x1b./g, "");
    pre.textContent = settle(said).slice(-20000);
  },
  cell_ended: ({ cell, status, seconds: took }) => {
    const found = place(cell);
    found.className = `cell ${status}`;
    found.querySelector("p").textContent += ` (${status}, ${seconds(took ?? 0)})`;
    show(cell);
    at("progress").value += 1 / Math.max(1, Number(main.dataset.cells));
  },
  server: ({ port }) => {
    const card = make("div", undefined, "card");
    const open = link(`${base}/runs/${run}/servers/${port}`, "Open it in a new tab");
    open.target = "_blank";
    open.rel = "noopener noreferrer";
    open.className = "button";
    card.append(make("p", `This notebook serves a page of its own (port ${port}). It is the notebook's page, not this one: what you type there goes to the notebook.`), open);
    at("servers").append(card);
  },
  added: ({ cell, outputs }) => show(cell, outputs),
  serving: ({ buttons }) => {
    tell(`every cell ran; ${buttons ? "the buttons in its outputs work" : "its web server is open"} until you close it or nobody has used it for a quarter of an hour`);
    at("progress").hidden = true;
    at("stop").textContent = "Close it";
    at("run").disabled = remember(seen) !== "yes";
  },
  asked: ({ question, wants, what, hidden }) => wants === "line" ? askLine(question, what, hidden) : ask(question, wants, what),
  answered: ({ question }) => document.getElementById(`question-${question}`)?.remove(),
  ended: ({ state, why }) => {
    tell(`${state}${why ? `: ${why}` : ""}`);
    at("progress").hidden = true;
    at("stop").hidden = true;
    at("run").disabled = remember(seen) !== "yes";
    at("asked").replaceChildren();
    at("servers").replaceChildren();
    source?.close();
    after();
    earlier();
  },
};

// A cell's outputs, or what has been added to those shown: a frame that stays keeps the state of its scripts.
const show = async (cell, upto) => {
  const found = place(cell);
  const before = upto === undefined ? 0 : Number(found.dataset.outputs ?? 0);
  if (upto !== undefined && upto <= before) return;
  const answer = await fetch(`${base}/runs/${run}/cells/${cell}?after=${before}`);
  if (!answer.ok) return;
  const words = await answer.text();
  found.dataset.outputs = answer.headers.get("X-Outputs");
  // Made safe on the server (allmend.pages.outputs); the policy of this page lets no script in it run.
  const made = new DOMParser().parseFromString(words, "text/html");
  if (before) found.lastElementChild.append(...made.body.childNodes);
  else found.lastElementChild.replaceChildren(...made.body.childNodes);
  if (!words && !before) found.remove();
};

// A script in an output calls a function that the notebook registered (google.colab.kernel.invokeFunction).
const call = async (frame, { id, name, args, kwargs }) => {
  const cell = Number(frame.closest(".cell").id.slice("cell-".length));
  let said;
  try {
    const answer = await fetch(`${base}/runs/${run}/calls`, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ cell, name, args, kwargs }),
    });
    const words = await say(answer);
    said = answer.ok ? { called: id, data: words.data, error: words.error } : { called: id, error: words.error.message };
    if (!answer.ok) tell(`an output called ${String(name).slice(0, 100)}: ${words.error.message}`);
  } catch (error) {
    said = { called: id, error: String(error) };
  }
  frame.contentWindow?.postMessage(said, "*");
};

addEventListener("message", (event) => {
  const frame = [...document.querySelectorAll("iframe.output")].find((each) => each.contentWindow === event.source);
  const height = event.data?.height;
  if (frame && event.data?.call) call(frame, event.data.call);
  if (frame && Number.isFinite(height)) frame.style.height = `${Math.min(Math.max(height, 20), 3000)}px`;
});

const ask = (number, kind, what) => {
  const card = make("div", undefined, "card ask");
  card.id = `question-${number}`;
  card.append(make("p", `The running cell wants ${kind === "host" ? "to reach" : `the ${kind}`} ${what}, which is not permitted. It waits for your answer; without one it is refused after three minutes.`));
  if (main.dataset.mayAsk === "true") {
    const row = make("div", undefined, "row");
    for (const [words, allowed] of [["Allow it for this run", true], ["Refuse", false]]) {
      const button = make("button", words);
      button.addEventListener("click", () => fetch(`${base}/runs/${run}/answers/${number}`, {
        method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ allowed }),
      }));
      row.append(button);
    }
    card.append(row);
  }
  at("asked").append(card);
};

// What a cell reads with input() or getpass(). The prompt is the notebook's own words, and shown as such.
const askLine = (number, prompt, hidden) => {
  const card = make("form", undefined, "card ask");
  card.id = `question-${number}`;
  const label = make("label", `The running cell asks you to type ${hidden ? "something secret" : "a line"}. What you type goes to the notebook.`);
  const words = make("pre", prompt);
  const field = make("input");
  field.type = hidden ? "password" : "text";
  field.autocomplete = "off";
  field.id = `line-${number}`;
  label.htmlFor = field.id;
  const row = make("div", undefined, "row");
  row.append(field, make("button", "Answer"));
  card.append(label, ...(prompt ? [words] : []), row);
  card.addEventListener("submit", (event) => {
    event.preventDefault();
    fetch(`${base}/runs/${run}/answers/${number}`, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ line: field.value }),
    });
  });
  at("asked").append(card);
  field.focus();
};

const link = (address, words) => { const made = make("a", words); made.href = address; return made; };

const after = async () => {
  const answer = await fetch(`${base}/runs/${run}`);
  if (!answer.ok) return;
  const words = await answer.json();
  const card = make("div", undefined, "card");
  const row = make("div", undefined, "row");
  const address = `${base}/runs/${run}`;
  for (const name of words.outputs) row.append(link(`${address}/outputs/${name.split("/").map(encodeURIComponent).join("/")}`, name));
  if (words.receipt) row.append(link(`${address}/receipt`, "receipt"), link(`${address}/notebook`, "executed notebook"));
  const query = new URLSearchParams(Object.entries(words.values).map(([name, value]) => [name, typeof value === "string" ? value : JSON.stringify(value)]));
  row.append(link(`${base}/?${query}`, "run it again with these values"), link(address, "link to this result"));
  card.append(row);
  at("after").replaceChildren(card);
};

const earlier = async () => {
  const answer = await fetch(`${base}/runs`);
  if (!answer.ok) return;
  const { runs } = await answer.json();
  const list = make("ul");
  for (const each of runs) {
    const item = make("li");
    item.append(link(`${base}/runs/${each.id}`, new Date(each.asked_at * 1000).toLocaleString()), make("span", ` ${each.state} ${JSON.stringify(each.values)}`.slice(0, 200), "dim"));
    list.append(item);
  }
  at("earlier").replaceChildren(list);
};
at("history").addEventListener("toggle", earlier);

const follow = (id) => {
  run = id;
  source?.close();
  for (const name of ["results", "asked", "servers", "after"]) at(name).replaceChildren();
  at("progress").value = 0;
  at("stop").hidden = false;
  at("stop").textContent = "Stop";
  at("run").disabled = true;
  tell("waiting");
  source = new EventSource(`${base}/runs/${id}/events`);
  for (const [name, heard] of Object.entries(hear)) source.addEventListener(name, (event) => heard(JSON.parse(event.data)));
};

const fill = (values) => { for (const field of fields()) if (field.name in values) write(field, values[field.name]); };

const start = async () => {
  fill(Object.fromEntries(new URLSearchParams(location.search)));
  const match = location.pathname.match(/\/runs\/([\w-]+)$/);
  if (!match) return;
  const answer = await fetch(`${base}/runs/${match[1]}`);
  if (!answer.ok) { tell("that run is not here any more"); return; }
  fill((await answer.json()).values);
  follow(match[1]);
};
addEventListener("popstate", () => location.reload());
start();
