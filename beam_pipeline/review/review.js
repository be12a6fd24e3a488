"use strict";
// The page's one rule: text from clips goes into the document as text (textContent), never as markup.
(() => {
  const $ = (id) => document.getElementById(id);
  const token = new URLSearchParams(location.search).get("token") || "";
  const SVG = "http://www.w3.org/2000/svg";
  const SCALES = { detail: 3, hallucination: 5 };
  const QUESTIONS = ["corresponds", "detail", "hallucination"];

  let done = []; // of each clip, whether it is judged
  let clip = null; // the one that is shown
  let draft = null; // what was answered of it so far
  let busy = false; // from a key that goes on until the next clip is shown
  let heard = -1; // the place whose sound is there
  const unheard = new Set(); // places whose sound is not to be had
  let since = 0; // when the clip was last counted as looked at
  const at = { word: 0, cue: 0, question: 0 };

  // --- talking to the server -----------------------------------------------------------------------------------

  const address = (path) => `${path}?token=${encodeURIComponent(token)}`;

  async function ask(path, body) {
    const asked = body === undefined ? {} : {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
    };
    let answer;
    try {
      answer = await fetch(address(path), asked);
    } catch {
      throw new Error("the server does not answer; start `earshot review` again and open its new address");
    }
    const found = await answer.json().catch(() => ({ error: `the server says ${answer.status}` }));
    if (!answer.ok) throw new Error(found.error);
    return found;
  }

  function say(text, isWrong = false) {
    $("said").textContent = text;
    $("said").classList.toggle("wrong", isWrong);
  }

  // --- drafts: what is half done outlives a reload, and the server ---------------------------------------------

  const kept = (key, value) => {
    try {
      if (value === undefined) return localStorage.getItem(key);
      if (value === null) localStorage.removeItem(key); else localStorage.setItem(key, value);
    } catch { /* a browser that keeps nothing: answers last until the page is left */ }
    return null;
  };
  const draftKey = () => `earshot-review\n${document.body.dataset.key}\n${clip.clip_id}\n${clip.caption}`;

  function startDraft() {
    const blank = { corresponds: null, corrected: clip.caption, inaudible: [], detail: null, hallucination: null,
      cues: {}, note: "", seconds: 0, judged: false };
    const saved = clip.review ? { ...clip.review, judged: true } : {};
    let found = {};
    try { found = JSON.parse(kept(draftKey()) || "{}"); } catch { found = {}; }
    draft = { ...blank, ...saved, ...found };
  }

  function keep() {
    if (busy) return; // what is saved now is not half done any more
    count();
    kept(draftKey(), JSON.stringify(draft));
  }

  function count() { // only the time in which the page can be seen
    const now = performance.now();
    if (draft && !document.hidden) draft.seconds += (now - since) / 1000;
    since = now;
  }

  // --- one clip ------------------------------------------------------------------------------------------------

  async function show(place, play = true) {
    if (busy) return;
    busy = true;
    try {
      await change(place);
    } catch (error) {
      say(`Clip ${place + 1}: ${error.message}`, true);
      return;
    } finally {
      busy = false;
    }
    await hear(place, play);
  }

  async function change(place) {
    clip = await ask(`/api/clips/${place}`);
    since = performance.now();
    startDraft();
    history.replaceState(null, "", `#${place + 1}`);
    $("work").hidden = false;
    $("end").hidden = true;
    $("which").textContent = `Clip ${place + 1} of ${done.length}${done[place] ? ", judged" : ""}`;
    showWords();
    $("corrected").value = draft.corrected;
    $("note").value = draft.note;
    for (const name of QUESTIONS) showAnswer(name);
    hideVideo();
    showCues();
    changed();
    mark(QUESTIONS.findIndex((name) => draft[name] === null));
    $("which").focus({ preventScroll: true });
    scrollTo(0, 0);
  }

  async function hear(place, play) {
    const player = $("player");
    heard = -1;
    player.pause();
    player.removeAttribute("src");
    $("outline").replaceChildren();
    $("trouble").hidden = true;
    $("listen").hidden = false;
    let found;
    try {
      found = await ask(`/api/clips/${place}/sound`);
    } catch (error) {
      found = { error: error.message };
    }
    if (clip.at !== place) return; // somebody was quicker
    if (found.error) {
      unheard.add(place);
      $("trouble").textContent = `This clip cannot be heard: ${found.error}. Skip it (s).`;
      $("trouble").hidden = false;
      $("listen").hidden = true;
      return;
    }
    unheard.delete(place);
    heard = place;
    drawOutline(found.outline);
    player.src = address(`/sound/${place}.wav`);
    if (play && $("at-once").checked) player.play().catch(() => {}); // before the first key a browser may refuse
  }

  function drawOutline(bars) {
    const width = 240 / bars.length;
    $("outline").replaceChildren(...bars.map((height, index) => {
      const bar = document.createElementNS(SVG, "rect");
      const tall = Math.max(1, height * 0.38);
      for (const [name, value] of Object.entries({ x: index * width, y: 20 - tall / 2, width: width * 0.7, height: tall }))
        bar.setAttribute(name, value);
      return bar;
    }));
  }

  function follow() {
    const player = $("player");
    const bars = $("outline").children;
    const heard = player.duration ? Math.round((bars.length * player.currentTime) / player.duration) : 0;
    for (let index = 0; index < bars.length; index++) bars[index].classList.toggle("heard", index < heard);
    if (!player.paused) requestAnimationFrame(follow);
  }

  function playPause() {
    const player = $("player");
    if (player.paused) player.play().catch((error) => say(`It cannot be played: ${error.message}`, true));
    else player.pause();
  }

  function again() {
    $("player").currentTime = 0;
    if ($("player").paused) playPause();
  }

  const jump = (seconds) => { $("player").currentTime = Math.max(0, $("player").currentTime + seconds); };

  // --- the caption ---------------------------------------------------------------------------------------------

  function showWords() {
    at.word = 0;
    $("words").replaceChildren(...clip.words.flatMap(([text, spaced], index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = text;
      button.tabIndex = index ? -1 : 0;
      button.setAttribute("aria-pressed", draft.inaudible.includes(index));
      button.addEventListener("click", () => { at.word = index; flipWord(); });
      return spaced ? [" ", button] : [button];
    }));
  }

  const wordButtons = () => $("words").querySelectorAll("button");

  function toWord(index) {
    const buttons = wordButtons();
    if (!buttons.length) return;
    at.word = Math.min(Math.max(index, 0), buttons.length - 1);
    buttons.forEach((button, each) => { button.tabIndex = each === at.word ? 0 : -1; });
    buttons[at.word].focus();
  }

  function flipWord() {
    const marked = new Set(draft.inaudible);
    if (!marked.delete(at.word)) marked.add(at.word);
    draft.inaudible = [...marked].sort((a, b) => a - b);
    wordButtons()[at.word].setAttribute("aria-pressed", marked.has(at.word));
    toWord(at.word);
    keep();
  }

  function markWords() {
    if ($("words").contains(document.activeElement)) flipWord();
    else toWord(at.word);
  }

  function changed() {
    const isChanged = $("corrected").value.trim() !== clip.caption.trim();
    $("corrected").classList.toggle("changed", isChanged);
    $("undo").hidden = !isChanged;
  }

  function edited() {
    draft.corrected = $("corrected").value;
    changed();
    keep();
  }

  function putBack() {
    $("corrected").value = clip.caption;
    edited();
    $("which").focus({ preventScroll: true });
  }

  // --- questions -----------------------------------------------------------------------------------------------

  function mark(question) {
    at.question = question;
    QUESTIONS.forEach((name, index) => {
      const group = document.querySelector(`[data-question="${name}"]`);
      if (index === question) group.setAttribute("aria-current", "step"); else group.removeAttribute("aria-current");
    });
  }

  function showAnswer(name) {
    const value = name === "corresponds" ? { true: "yes", false: "no" }[draft[name]] : String(draft[name]);
    for (const input of document.querySelectorAll(`input[name="${name}"]`)) input.checked = input.value === value;
  }

  function answer(name, value) {
    draft[name] = value;
    showAnswer(name);
    keep();
    const open = QUESTIONS.findIndex((each) => draft[each] === null);
    mark(open);
    say(open < 0 ? (draft.judged || !clip.cues.length ? "Enter saves." : "Enter goes on to the cues.") : "");
    if (open < 0) at.question = QUESTIONS.indexOf(name); // another digit corrects what was just answered
  }

  function digit(value) {
    const name = QUESTIONS[at.question];
    if (value <= (SCALES[name] || 0)) answer(name, value);
  }

  // --- cues: only when the caption has been judged, so that they do not lead the ear ---------------------------------

  function showCues() {
    at.cue = 0;
    const isShown = draft.judged && clip.cues.length > 0;
    $("cues").hidden = !isShown;
    $("clip-id").textContent = isShown ? clip.clip_id : "";
    $("cue-list").replaceChildren(...(isShown ? clip.cues.map(cueRow) : []));
    $("on").firstChild.textContent = draft.judged || !clip.cues.length ? "Save and next " : "On to the cues ";
  }

  function cueRow([name, items], index) {
    const row = document.createElement("li");
    row.tabIndex = -1;
    const title = document.createElement("span");
    title.className = "name";
    title.id = `cue-${index}`;
    title.textContent = name;
    const says = document.createElement("ul");
    says.className = "says";
    for (const [text, beside] of items) {
      const line = document.createElement("li");
      const soft = document.createElement("span");
      soft.className = "soft";
      soft.textContent = beside ? ` ${beside}` : "";
      line.append(text, soft);
      says.append(line);
    }
    const choices = document.createElement("div");
    choices.className = "row";
    choices.setAttribute("role", "group");
    choices.setAttribute("aria-labelledby", title.id);
    for (const [text, value] of [["right", true], ["wrong", false]]) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = text;
      button.textContent = text;
      button.setAttribute("aria-pressed", draft.cues[name] === value);
      button.addEventListener("click", () => { at.cue = index; judgeCue(draft.cues[name] === value ? null : value, false); });
      choices.append(button);
    }
    row.append(title, says, choices);
    row.addEventListener("focus", () => { at.cue = index; });
    return row;
  }

  function toCue(index) {
    if ($("cues").hidden) return;
    at.cue = Math.min(Math.max(index, 0), clip.cues.length - 1);
    $("cue-list").children[at.cue].focus();
  }

  function judgeCue(value, moveOn = true) {
    if ($("cues").hidden) return;
    const name = clip.cues[at.cue][0];
    if (value === null) delete draft.cues[name]; else draft.cues[name] = value;
    const row = $("cue-list").children[at.cue];
    row.querySelector(".right").setAttribute("aria-pressed", value === true);
    row.querySelector(".wrong").setAttribute("aria-pressed", value === false);
    keep();
    if (moveOn) toCue(at.cue + (value === null ? 0 : 1));
  }

  function restRight() {
    if ($("cues").hidden) return;
    clip.cues.forEach(([name], index) => { if (!(name in draft.cues)) { at.cue = index; judgeCue(true, false); } });
    toCue(clip.cues.length - 1);
  }

  // --- the video, only where it is asked for -----------------------------------------------------------------------

  function hideVideo() {
    $("strip").hidden = true;
    $("strip").replaceChildren();
    $("look").setAttribute("aria-expanded", "false");
  }

  async function look() {
    if (!$("strip").hidden) return hideVideo();
    const place = clip.at;
    const found = await ask(`/api/clips/${place}/strip`).catch((error) => ({ error: error.message }));
    if (clip.at !== place) return;
    const shown = document.createElement(found.error ? "p" : "img");
    if (found.error) shown.textContent = `Nothing can be seen: ${found.error}.`;
    else {
      shown.alt = `Pictures of the video at ${found.times.map((time) => time.toFixed(1)).join(", ")} seconds`;
      shown.src = found.image;
    }
    $("strip").replaceChildren(shown);
    $("strip").hidden = false;
    $("look").setAttribute("aria-expanded", "true");
  }

  // --- going on ------------------------------------------------------------------------------------------------

  async function goOn() {
    if (!$("end").hidden || busy || !clip) return;
    if (heard !== clip.at)
      return say(unheard.has(clip.at) ? "What cannot be heard cannot be judged: skip it (s)." : "Its sound is not here yet.", true);
    const open = QUESTIONS.findIndex((name) => draft[name] === null);
    if (open >= 0) {
      mark(open);
      const group = document.querySelector(`[data-question="${QUESTIONS[open]}"]`);
      group.scrollIntoView({ block: "center" });
      return say(`Still to answer: ${["does it say what can be heard? (y, n)", "detail (1 to 3)", "hallucination (1 to 5)"][open]}`, true);
    }
    if (!draft.judged && clip.cues.length) {
      draft.judged = true;
      keep();
      showCues();
      say("Judge the cues; Enter saves.");
      return toCue(0);
    }
    await save();
  }

  async function save() {
    busy = true;
    count();
    const place = clip.at;
    const { corresponds, corrected, inaudible, detail, hallucination, cues, note, seconds } = draft;
    const said = { corresponds, corrected, inaudible, detail, hallucination, cues, note, seconds };
    try {
      const saved = await ask(`/api/clips/${place}`, { ...said, clip_id: clip.clip_id });
      kept(draftKey(), null);
      done[place] = true;
      showProgress();
      say(`Clip ${place + 1} saved at ${new Date(saved.at).toLocaleTimeString()} in ${saved.file}`);
    } catch (error) {
      busy = false;
      return say(`Not saved: ${error.message}. Your answers are kept here; Enter tries again.`, true);
    }
    const next = nextOpen(place);
    busy = false; // nothing can come between: `show` is busy before it waits
    await (next < 0 ? finish() : show(next));
  }

  function nextOpen(place) {
    for (let step = 1; step <= done.length; step++) {
      const next = (place + step) % done.length;
      if (!done[next] && !unheard.has(next)) return next;
    }
    return -1;
  }

  async function skip() {
    const place = clip ? clip.at : -1;
    const next = nextOpen(place);
    if (next < 0) await finish();
    else if (next === place) say("No other clip is left to judge.");
    else await show(next);
  }

  async function finish() {
    $("player").pause();
    $("work").hidden = true;
    $("end").hidden = false;
    const open = done.filter((each) => !each).length;
    $("end-title").textContent = open
      ? `${clips(open)} cannot be heard; of ${clips(done.length)} all others are judged. Thank you.`
      : `${done.length === 1 ? "The clip is" : `All ${done.length} clips are`} judged. Thank you.`;
    $("end-title").focus({ preventScroll: true });
    scrollTo(0, 0);
    const found = await ask("/api/figures").catch((error) => ({ rows: [], raters: [], error: error.message }));
    $("end-said").textContent = found.error
      || `What was said of this sample by ${found.raters.join(", ")}, with 95 % intervals. Previous (k) goes back.`;
    const table = [["figure", "found", "95 % interval", "clips", "published"], ...found.rows].map((cells, index) => {
      const row = document.createElement("tr");
      row.append(...cells.map((text, column) => {
        const cell = document.createElement(index && column ? "td" : "th");
        cell.scope = index ? "row" : "col";
        if (cell.tagName === "TD") { cell.removeAttribute("scope"); cell.className = "number"; }
        cell.textContent = text;
        return cell;
      }));
      return row;
    });
    const head = document.createElement("thead");
    const body = document.createElement("tbody");
    head.append(table[0]);
    body.append(...table.slice(1));
    $("figures").replaceChildren(head, body);
  }

  const clips = (count) => `${count} ${count === 1 ? "clip" : "clips"}`;

  function step(by) {
    if (!$("end").hidden) return by < 0 ? show(clip ? clip.at : done.length - 1) : undefined;
    const place = clip.at + by;
    if (place >= 0 && place < done.length) return show(place);
    return say(by < 0 ? "This is the first clip." : "This is the last clip.");
  }

  function showProgress() {
    const number = done.filter(Boolean).length;
    $("progress").max = done.length;
    $("progress").value = number;
    $("count").textContent = `${number} of ${done.length} judged`;
  }

  // --- keys ------------------------------------------------------------------------------------------------------

  function help() {
    if ($("help").open) $("help").close(); else $("help").showModal();
  }

  const ACTIONS = {
    "?": help, p: playPause, " ": playPause, a: again, ",": () => jump(-2), ".": () => jump(2), v: look,
    y: () => answer("corresponds", true), n: () => answer("corresponds", false),
    d: () => mark(1), h: () => mark(2), x: markWords, e: () => $("corrected").focus(), z: putBack,
    m: () => $("note").focus(), r: () => judgeCue(true), w: () => judgeCue(false), c: () => judgeCue(null), R: restRight,
    j: () => step(1), k: () => step(-1), s: skip, Enter: goOn,
    ArrowUp: () => toCue(at.cue - 1), ArrowDown: () => toCue(at.cue + 1),
  };
  for (const number of [1, 2, 3, 4, 5]) ACTIONS[number] = () => digit(number);
  const AT_THE_END = new Set(["?", "k"]);

  function inField(event) { // Enter and Escape leave it; all other keys are text
    if (event.key !== "Escape" && (event.key !== "Enter" || event.isComposing)) return;
    event.preventDefault();
    event.target.blur();
    $("which").focus({ preventScroll: true });
  }

  function named(event) { // whatever Caps Lock makes of a letter
    if (!/^[a-z]$/i.test(event.key)) return event.key;
    return event.shiftKey ? event.key.toUpperCase() : event.key.toLowerCase();
  }

  function pressed(event) {
    const target = event.target;
    if ($("help").open) {
      if (event.key === "?") { event.preventDefault(); help(); }
      return;
    }
    if (event.key === "Enter" && event.ctrlKey) { event.preventDefault(); goOn(); return; }
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (target.matches("textarea, input[type=text]")) { inField(event); return; }
    const inWords = $("words").contains(target);
    if (inWords && ["ArrowLeft", "ArrowRight"].includes(event.key)) {
      event.preventDefault();
      toWord(at.word + (event.key === "ArrowRight" ? 1 : -1));
      return;
    }
    if (inWords && event.key === "Escape") { $("which").focus({ preventScroll: true }); return; }
    // What a control does with these keys is its own affair.
    const isControl = target.matches("button, input, audio, select, a, summary");
    if (isControl && (event.key === " " || event.key.startsWith("Arrow"))) return;
    if (event.key === "Enter" && target.matches("button") && !inWords) return;
    if (!$("keys").checked && event.key !== "Enter" && !event.key.startsWith("Arrow")) return;
    const key = named(event);
    if (!$("end").hidden && !AT_THE_END.has(key)) return;
    if (event.repeat && ["j", "k", "s", "Enter"].includes(key)) return; // a key that is held skips no clips
    const action = Object.hasOwn(ACTIONS, key) ? ACTIONS[key] : null;
    if (!action || (!clip && key !== "?")) return;
    if (event.key.startsWith("Arrow") && $("cues").hidden) return;
    event.preventDefault();
    if (!busy || key === "?") action(); // what is typed now was meant for a clip that is not the one shown
  }

  // --- start -----------------------------------------------------------------------------------------------------

  function remember(box, name) {
    box.checked = kept(name) !== "no";
    box.addEventListener("change", () => kept(name, box.checked ? "yes" : "no"));
  }

  function listen() {
    document.addEventListener("keydown", pressed);
    document.addEventListener("visibilitychange", () => { if (document.hidden) { count(); } else { since = performance.now(); } });
    for (const button of document.querySelectorAll("[data-key-is]"))
      button.addEventListener("click", () => ACTIONS[button.dataset.keyIs]());
    for (const input of document.querySelectorAll("fieldset input"))
      input.addEventListener("change", () =>
        answer(input.name, input.name === "corresponds" ? input.value === "yes" : Number(input.value)));
    $("corrected").addEventListener("input", edited);
    $("note").addEventListener("input", () => { draft.note = $("note").value; keep(); });
    $("close-help").addEventListener("click", help);
    $("outline").addEventListener("click", (event) => {
      const box = $("outline").getBoundingClientRect();
      if ($("player").duration) $("player").currentTime = ($("player").duration * (event.clientX - box.left)) / box.width;
    });
    for (const name of ["play", "seeked", "ended", "pause"]) $("player").addEventListener(name, follow);
    remember($("at-once"), "earshot-review play at once");
    remember($("keys"), "earshot-review keys");
  }

  async function start() {
    listen();
    try {
      const state = await ask("/api/state");
      done = [...state.done].map((each) => each === "1");
      showProgress();
      const wanted = /^#[0-9]+$/.test(location.hash) ? Number(location.hash.slice(1)) - 1 : -1;
      if (wanted >= 0 && wanted < done.length) await show(wanted, false);
      else if (state.start === null) await finish();
      else await show(state.start, false);
    } catch (error) {
      say(error.message, true);
    }
  }

  start();
})();
