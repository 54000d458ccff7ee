"use strict";
// What this page knows it asks this node for; text of others is put in as text, never as markup.
let token = "";
let refreshing = 0;

const find = (id) => document.getElementById(id);

function element(kind, text = "", css = "") {
  const made = document.createElement(kind);
  made.textContent = text;
  made.className = css;
  return made;
}

function call(path, body) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  if (body) headers["Content-Type"] = "application/json";
  return fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body) });
}

async function refresh() {
  let reply;
  try {
    reply = await call("v1/status");
  } catch {
    find("node").textContent = "The node does not answer.";
    return;
  }
  find("login").hidden = reply.status !== 401;
  if (reply.status === 401) {
    find("node").textContent = token ? "This token is not known here." : "";
    for (const id of ["served", "trying"]) find(id).hidden = true;
    find("token").focus();
    return;
  }
  if (!reply.ok) {
    find("node").textContent = `The node answers with status ${reply.status}.`;
    return;
  }
  show(await reply.json());
  clearTimeout(refreshing);
  refreshing = setTimeout(refresh, 5000);
}

function show(node) {
  find("node").textContent =
    `Channel ${node.channel}, generation ${node.generation}, signed ${node.created}` +
    (node.stale ? "; there may be a newer one" : "") + `. Base model ${node.base.slice(0, 12)}.`;
  find("alarms").replaceChildren(...node.alarms.map((alarm) => element("p", alarm)));
  find("served").hidden = find("trying").hidden = node.prompts.length === 0;
  if (node.prompts.length === 0) find("node").textContent += " It serves nothing that you may ask.";
  find("prompts").replaceChildren(...node.prompts.map(line));
  offer(find("first"), node.prompts, 0);
  offer(find("second"), node.prompts, node.prompts.length - 1);
}

function line(prompt) {
  const row = element("tr");
  const digests = Object.entries(prompt.digests);
  const shown = digests.map(([digest, weight]) => digest.slice(0, 12) + (digests.length > 1 ? ` (weight ${weight})` : ""));
  const digest = element("td", shown.join(", ") || "the bare base model", digests.length ? "mono wide" : "soft wide");
  digest.title = digests.map(([full]) => full).join("\n");
  const first = prompt.mean_seconds_to_first_token;
  const pace = prompt.mean_tokens_per_second;
  row.append(element("td", prompt.id), digest);
  for (const [label, text] of [
    ["answers", String(prompt.num_answers)],
    ["first token", first ? `${Math.round(first * 1000)} ms` : "–"],
    ["tokens a second", pace ? pace.toFixed(1) : "–"],
  ]) {
    const cell = element("td", text, "number");
    cell.dataset.label = label;
    row.append(cell);
  }
  return row;
}

function offer(select, prompts, usual) {
  const names = prompts.flatMap((prompt) => [prompt.id, ...pins(prompt)]);
  if (names.join() === [...select.options].map((option) => option.value).join()) return;
  const before = select.value;
  select.replaceChildren(...names.map((name) => {
    const option = element("option", name.replace(/(@sha256:.{12}).*/, "$1…"));
    option.value = name;
    return option;
  }));
  select.value = names.includes(before) ? before : prompts[usual].id;
}

function pins(prompt) {
  const canary = Object.keys(prompt.digests);
  return [...(canary.length > 1 ? canary : []), ...prompt.pinnable].map((digest) => `${prompt.id}@sha256:${digest}`);
}

function input(text) {
  try {
    const value = JSON.parse(text);
    if (value && typeof value === "object" && Object.values(value).every((one) => typeof one === "string")) return value;
  } catch { /* a text like any other */ }
  return text;
}

async function answer(model, text, place) {
  const [title, said, facts] = place.children;
  place.hidden = false;
  title.textContent = model.replace(/(@sha256:.{12}).*/, "$1…");
  said.className = "said";
  said.replaceChildren("…");
  facts.textContent = "";
  const begun = performance.now();
  try {
    const reply = await ask(model, input(text));
    if (!reply.ok) throw new Error((await reply.json()).error.message);
    if ((reply.headers.get("Content-Type") || "").startsWith("text/event-stream")) await stream(reply, said);
    else said.replaceChildren(...bars(await reply.json()));
    const digest = (reply.headers.get("X-Softprompt-Digest") || "the bare base model").replace(/^sha256:(.{12}).*/, "$1");
    const generation = reply.headers.get("X-Softprompt-Generation");
    facts.textContent = `${digest}, generation ${generation}, ${Math.round(performance.now() - begun)} ms`;
  } catch (error) {
    said.className = "said failed";
    said.textContent = error.message;
  }
}

// Labels where the prompt has them, else the text as it is written; how a prompt takes its input only the node knows.
async function ask(model, given) {
  let reply = await call("v1/classify", { model, input: given });
  if (reply.status !== 400 || (await reply.clone().json()).error.code !== "unsupported_value") return reply;
  reply = await call("v1/completions", { model, prompt: given, stream: true });
  if (reply.status !== 400 || (await reply.clone().json()).error.code !== "unsupported_value") return reply;
  return call("v1/chat/completions", { model, messages: [{ role: "user", content: given }], stream: true });
}

async function stream(reply, said) {
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  said.replaceChildren();
  for (let left = ""; ;) {
    const { done, value } = await reader.read();
    if (done) break;
    const events = (left + value).split("\n\n");
    left = events.pop();
    for (const event of events) {
      const data = event.replace(/^data: /, "");
      if (data === "[DONE]") continue;
      const found = JSON.parse(data);
      if (found.error) throw new Error(found.error.message);
      const choice = found.choices[0];
      if (choice) said.append(choice.text ?? choice.delta.content ?? "");
    }
  }
  if (!said.textContent) said.append(element("span", "(nothing)", "soft"));
}

function bars(found) {
  const ranked = Object.entries(found.probabilities).sort((one, other) => other[1] - one[1]).slice(0, 8);
  return ranked.map(([label, probability]) => {
    const bar = element("div", "", "bar");
    const meter = element("meter");
    meter.value = probability;
    meter.setAttribute("aria-label", label);
    bar.append(element("span", label), meter, element("span", `${(100 * probability).toFixed(1)} %`, "number"));
    return bar;
  });
}

find("login").addEventListener("submit", (event) => {
  event.preventDefault();
  token = find("token").value.trim();
  refresh();
});

find("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = event.target.querySelector("button");
  const text = find("text").value;
  button.disabled = true;
  await Promise.all(["first", "second"].map((side) => answer(find(side).value, text, find(`answer-${side}`))));
  button.disabled = false;
  refresh();
});

find("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) find("ask").requestSubmit();
});

refresh();
