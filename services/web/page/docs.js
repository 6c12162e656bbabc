"use strict";
// Everything is put in as text, never as HTML: what stands in the document stays words.

const make = (tag, props = {}, ...inside) => {
  const made = Object.assign(document.createElement(tag), props);
  made.append(...inside.filter((one) => one !== null && one !== undefined));
  return made;
};
const byId = (id) => document.getElementById(id);
let api;

const follow = (thing) => {
  let found = thing;
  for (let depth = 0; found && found.$ref && depth < 10; depth += 1) {
    const rest = { ...found };
    delete rest.$ref;
    const target = found.$ref.slice(2).split("/").reduce((at, key) => at[key], api);
    found = { ...target, ...rest };
  }
  return found || {};
};

const typeOf = (schema) => {
  const one = follow(schema);
  if (one.type === "array") return `${typeOf(one.items || {})}[]`;
  if (one.title && one.type === "object") return one.title;
  return [one.type || "any", one.format].filter(Boolean).join(" ");
};

const rulesOf = (schema) => {
  const one = follow(schema);
  const rules = [];
  for (const key of ["minLength", "maxLength", "minimum", "maximum", "minItems", "maxItems", "pattern"]) {
    if (one[key] !== undefined) rules.push(`${key} ${one[key]}`);
  }
  if (one.enum) rules.push(`one of ${one.enum.map((value) => JSON.stringify(value)).join(", ")}`);
  return rules.join("; ");
};

const sample = (schema, depth = 0) => {
  const one = follow(schema);
  if (one.const !== undefined) return one.const;
  if (one.enum) return one.enum.find((value) => value !== "") ?? one.enum[0];
  if (one.type === "array") return depth > 3 ? [] : [sample(one.items || {}, depth + 1)];
  if (one.type === "object") {
    const names = Object.keys(one.properties || {}).filter((name) => depth < 4);
    return Object.fromEntries(names.map((name) => [name, sample(one.properties[name], depth + 1)]));
  }
  if (one.type === "integer" || one.type === "number") return one.minimum ?? 0;
  if (one.type === "boolean") return false;
  if (one.format === "uuid") return "01890a5d-ac96-774b-bcce-b302099a8057";
  if (one.format === "date-time") return "2026-01-01T00:00:00Z";
  if (one.format === "email") return "somchai@example.com";
  if (one.format === "int64") return "0";
  if (one.pattern && one.pattern.startsWith("^\\+")) return "+66812345678";
  return "";
};

const required = (schema) => {
  const one = follow(schema);
  const names = one.required || [];
  return Object.fromEntries(names.map((name) => [name, sample(one.properties[name], 1)]));
};

const fields = (schema) => {
  const one = follow(schema);
  if (one.type !== "object" || !one.properties) return make("p", { className: "dim" }, typeOf(one));
  const rows = Object.entries(one.properties).map(([name, each]) => make("tr", {},
    make("td", { className: "path" }, name + ((one.required || []).includes(name) ? " *" : "")),
    make("td", {}, typeOf(each)),
    make("td", {}, each.description || follow(each).description || "", make("div", { className: "dim" }, rulesOf(each)))));
  return make("table", {}, make("tbody", {}, ...rows));
};

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

const asCurl = (verb, path, body) => {
  const parts = ["curl -sS -X", verb, quoted(location.origin + path)];
  if (byId("token").value) parts.push('-H "authorization: Bearer $TOKEN"');
  if (body) parts.push("-H 'content-type: application/json' -d", quoted(body));
  return parts.join(" ");
};

const send = async (verb, template, inputs, body, out) => {
  let path = template;
  const query = new URLSearchParams();
  for (const [parameter, input] of inputs) {
    if (parameter.in === "path") path = path.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
    else if (input.value !== "") query.append(parameter.name, input.value);
  }
  if ([...query].length) path += `?${query}`;
  const headers = {};
  if (byId("token").value) headers.authorization = `Bearer ${byId("token").value}`;
  if (body) headers["content-type"] = "application/json";
  out.textContent = `${asCurl(verb, path, body)}\n\n…`;
  try {
    const answer = await fetch(path, { method: verb, headers, body: body || undefined });
    const text = await answer.text();
    let shown = text;
    try {
      const read = JSON.parse(text);
      shown = JSON.stringify(read, null, 2);
      if (answer.ok && read.access_token) byId("token").value = read.access_token;
    } catch { /* not JSON: shown as it is */ }
    const told = ["content-type", "location", "retry-after", "x-request-id"]
      .filter((name) => answer.headers.get(name)).map((name) => `${name}: ${answer.headers.get(name)}`);
    out.className = answer.ok ? "" : "bad";
    out.textContent = [asCurl(verb, path, body), "", `HTTP ${answer.status}`, ...told, "", shown].join("\n");
  } catch (error) {
    out.className = "bad";
    out.textContent = `${asCurl(verb, path, body)}\n\n${error}`;
  }
};

const form = (verb, path, operation) => {
  const inputs = (operation.parameters || []).map((parameter) => [parameter, make("input", {
    placeholder: typeOf(parameter.schema), required: Boolean(parameter.required), ariaLabel: parameter.name })]);
  const content = (operation.requestBody || { content: {} }).content["application/json"];
  const area = content ? make("textarea", { spellcheck: false, ariaLabel: "Body",
    value: JSON.stringify(required(content.schema), null, 2) }) : null;
  const out = make("pre", { className: "hidden" });
  const button = make("button", { type: "button", onclick: () => {
    out.classList.remove("hidden");
    send(verb, path, inputs, area && area.value, out);
  } }, "Send");
  return make("div", {}, make("h4", {}, "Try it"),
    ...inputs.map(([parameter, input]) => make("p", {}, make("label", {}, `${parameter.name}${parameter.required ? " *" : ""} `, input),
      make("span", { className: "dim" }, ` ${parameter.in}. ${parameter.description || ""}`))),
    area, make("p", {}, button), out);
};

const answers = (operation) => make("table", {}, make("tbody", {}, ...Object.entries(operation.responses).map(
  ([status, response]) => {
    const one = follow(response);
    const schema = Object.entries(one.content || {}).find(([media]) => media === "application/json");
    return make("tr", {}, make("td", { className: "path" }, status), make("td", {},
      ...(one.description || "").split("\n").filter(Boolean).map((line) => make("div", {}, line)),
      schema ? fields(schema[1].schema) : null));
  })));

const show = (verb, path, operation) => {
  const body = make("div");
  const access = operation.security.length ? (operation["x-role"] || "signed in") : "public";
  const line = make("summary", {}, make("span", { className: "verb" }, verb), make("span", { className: "path" }, path),
    make("span", { className: "dim grow" }, operation.summary), make("span", { className: "dim" }, access));
  const made = make("details", { id: operation.operationId }, line, body);
  made.addEventListener("toggle", () => {
    if (!made.open || body.childElementCount) return;
    const content = (operation.requestBody || { content: {} }).content["application/json"];
    body.append(make("p", {}, operation.description), make("p", { className: "dim" }, `gRPC: ${operation["x-grpc"]}`));
    if (content) body.append(make("h4", {}, "Body"), fields(content.schema));
    body.append(form(verb, path, operation), make("h4", {}, "Answers"), answers(operation));
  });
  made.dataset.text = `${verb} ${path} ${operation.summary} ${operation.operationId}`.toLowerCase();
  made.dataset.alias = operation["x-alias-of"] ? "yes" : "";
  return made;
};

const filter = () => {
  const wanted = byId("search").value.toLowerCase();
  for (const one of document.querySelectorAll("details")) {
    const fits = one.dataset.text.includes(wanted) && (byId("aliases").checked || !one.dataset.alias);
    one.classList.toggle("hidden", !fits);
  }
};

const start = async () => {
  api = await (await fetch("/openapi.json")).json();
  const main = byId("main");
  main.replaceChildren(...api.info.description.split("\n").filter(Boolean).map((line) => make("p", {}, line)));
  for (const tag of api.tags) {
    main.append(make("h2", {}, tag.name), make("p", { className: "dim" }, tag.description || ""));
    for (const [path, item] of Object.entries(api.paths)) {
      for (const [verb, operation] of Object.entries(item)) {
        if (operation.tags[0] === tag.name) main.append(show(verb.toUpperCase(), path, operation));
      }
    }
  }
  filter();
  if (location.hash) { const one = byId(location.hash.slice(1)); if (one) { one.open = true; one.scrollIntoView(); } }
};

byId("search").addEventListener("input", filter);
byId("aliases").addEventListener("change", filter);
start().catch((error) => { byId("state").textContent = `/openapi.json cannot be read: ${error}`; });
