"use strict";
(() => {
  const main = document.querySelector("main");
  const page = main.dataset.page;
  const format = main.dataset.format;
  const place = `d2tv-ratings-${page}`;
  const items = [...document.querySelectorAll(".item")];
  const groups = [...document.querySelectorAll(".criterion")];
  const radios = [...document.querySelectorAll(".criterion input")];
  const values = new Map(); // name of a group of radio buttons -> the values that it has
  for (const radio of radios) values.set(radio.name, [...(values.get(radio.name) ?? []), Number(radio.value)]);
  const get = (id) => document.getElementById(id);
  let current = 0;
  let unkept = false; // something was rated that this browser could not keep

  const plural = (count) => (count === 1 ? "1 rating" : `${count} ratings`);
  const rated = (group) => group.querySelector("input:checked") !== null;
  const say = (text) => { get("status").textContent = text; get("problem").textContent = ""; };
  const warn = (text) => { get("problem").textContent = text; get("status").textContent = ""; };

  function collected() {
    const ratings = {};
    for (const radio of radios) {
      if (!radio.checked) continue;
      const [item, letter, criterion] = radio.name.split(".");
      ((ratings[item] ??= {})[letter] ??= {})[criterion] = Number(radio.value);
    }
    return { format, page, annotator: get("annotator").value.trim(), ratings };
  }

  // Returns what is wrong with a file of ratings, or null.
  function wrong(found) {
    if (found === null || typeof found !== "object" || found.format !== format) return "it holds no ratings";
    if (found.page !== page) return "it is of another page";
    if (typeof found.annotator !== "string" || found.ratings === null || typeof found.ratings !== "object") {
      return "it is not whole";
    }
    for (const [item, letters] of Object.entries(found.ratings)) {
      for (const [letter, criteria] of Object.entries(letters ?? {})) {
        for (const [criterion, value] of Object.entries(criteria ?? {})) {
          const known = values.get(`${item}.${letter}.${criterion}`);
          if (known === undefined) return `this page has no ${criterion} of summary ${letter} of item ${item}`;
          if (!known.includes(value)) return `${criterion} of summary ${letter} of item ${item} is ${value}`;
        }
      }
    }
    return null;
  }

  function apply(found) {
    for (const radio of radios) {
      const [item, letter, criterion] = radio.name.split(".");
      radio.checked = found.ratings[item]?.[letter]?.[criterion] === Number(radio.value);
    }
    get("annotator").value = found.annotator;
  }

  function keep() {
    try {
      localStorage.setItem(place, JSON.stringify({ ...collected(), item: items[current].dataset.item }));
      unkept = false;
    } catch {
      unkept = true;
      warn("This browser keeps nothing for this page: save a file before you close it.");
    }
  }

  function kept() {
    try {
      const found = JSON.parse(localStorage.getItem(place) ?? "null");
      return found !== null && wrong(found) === null ? found : null;
    } catch {
      return null;
    }
  }

  function progress() {
    const done = groups.filter(rated).length;
    get("done").value = done;
    get("count").textContent = `${done} of ${groups.length} ratings`;
    items.forEach((item, number) => {
      const whole = [...item.querySelectorAll(".criterion")].every(rated);
      get("jump").options[number].textContent = item.dataset.item + (whole ? " ✓" : "");
    });
    return done;
  }

  function show(number, focus = true) {
    current = Math.min(Math.max(number, 0), items.length - 1);
    items.forEach((item, other) => { item.hidden = other !== current; });
    get("jump").selectedIndex = current;
    get("previous").disabled = current === 0;
    get("next").disabled = current === items.length - 1;
    if (focus) {
      const title = items[current].querySelector("h2");
      title.focus({ preventScroll: true });
      title.scrollIntoView({ block: "start" });
    }
  }

  function changed() {
    keep();
    if (progress() === groups.length && !unkept) say("Everything is rated: save a file and hand it in.");
  }

  // The first group without a rating from here on, then from the beginning.
  function nextUnrated() {
    const order = [...items.slice(current), ...items.slice(0, current)];
    for (const item of order) {
      const group = [...item.querySelectorAll(".criterion")].find((each) => !rated(each));
      if (group === undefined) continue;
      show(items.indexOf(item));
      keep();
      group.querySelector("input").focus();
      return;
    }
    say("Everything is rated: save a file and hand it in.");
  }

  get("items").addEventListener("change", () => { say(""); changed(); });
  get("items").addEventListener("submit", (event) => event.preventDefault());
  get("bar").addEventListener("submit", (event) => event.preventDefault());
  get("annotator").addEventListener("input", keep);
  get("jump").addEventListener("change", () => { show(get("jump").selectedIndex, false); keep(); });
  get("previous").addEventListener("click", () => { show(current - 1); keep(); });
  get("next").addEventListener("click", () => { show(current + 1); keep(); });
  get("unrated").addEventListener("click", nextUnrated);

  get("items").addEventListener("keydown", (event) => {
    const group = event.target.closest(".criterion");
    if (group === null || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Delete" || event.key === "Backspace") {
      for (const radio of group.querySelectorAll("input")) radio.checked = false;
      event.preventDefault();
      say("");
      changed();
      return;
    }
    const radio = [...group.querySelectorAll("input")].find((each) => each.value === event.key);
    if (radio === undefined) return;
    event.preventDefault();
    radio.checked = true;
    say("");
    changed();
    // On to the next rating of this item; behind the last one, to the button that leads to the next item.
    const own = [...items[current].querySelectorAll(".criterion")];
    const following = own[own.indexOf(group) + 1];
    if (following !== undefined) (following.querySelector("input:checked") ?? following.querySelector("input")).focus();
    else if (current < items.length - 1) get("next").focus();
    else get("save").focus();
  });

  get("save").addEventListener("click", () => {
    const found = collected();
    if (found.annotator === "") {
      warn("Write your name or initials first: they tell your file from those of others.");
      get("annotator").focus();
      return;
    }
    const file = new Blob([JSON.stringify(found, null, 1) + "\n"], { type: "application/json" });
    const link = document.createElement("a");
    link.href = URL.createObjectURL(file);
    link.download = `ratings-${found.annotator.replace(/[^\p{L}\p{N}]+/gu, "-")}-${page.slice(0, 8)}.json`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    unkept = false;
    const left = groups.length - progress();
    say(`Saved ${link.download}` + (left ? `: ${plural(left)} of ${groups.length} are still to come.` : ": all are rated."));
  });

  get("load").addEventListener("change", async () => {
    const [file] = get("load").files;
    if (file === undefined) return;
    let found = null;
    let problem = null;
    try {
      found = JSON.parse(await file.text());
      problem = wrong(found);
    } catch {
      problem = "it is no JSON";
    }
    get("load").value = "";
    if (problem !== null) {
      warn(`${file.name} was not loaded: ${problem}.`);
      return;
    }
    const lost = radios.filter((radio) => {
      const [item, letter, criterion] = radio.name.split(".");
      return radio.checked && found.ratings[item]?.[letter]?.[criterion] !== Number(radio.value);
    }).length;
    if (lost > 0 && !confirm(`${plural(lost)} made here differ from the file, which takes their place. Load it?`)) return;
    apply(found);
    say(`Loaded ${file.name}.`);
    changed();
  });

  get("anew").addEventListener("click", () => {
    const count = groups.filter(rated).length;
    if (!confirm(`This removes ${plural(count)} and the name from this browser. Saved files stay. Go on?`)) return;
    apply({ annotator: "", ratings: {} });
    show(0);
    changed();
    say("Begun anew.");
  });

  // The same page in another tab: both show what was rated last.
  addEventListener("storage", (event) => {
    const found = event.key === place ? kept() : null;
    if (found === null) return;
    apply(found);
    progress();
  });
  addEventListener("beforeunload", (event) => { if (unkept) event.preventDefault(); });

  const before = kept();
  if (before !== null) apply(before);
  show(before === null ? 0 : items.findIndex((item) => item.dataset.item === before.item), false);
  progress();
})();
