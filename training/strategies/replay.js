"use strict";
// Steps through recorded games. Nothing is computed here but which recorded board to show.
const data = JSON.parse(document.getElementById("games").textContent);
const $ = (id) => document.getElementById(id);
const arrows = { W: "↑ up", A: "← left", S: "↓ down", D: "→ right" };
const cells = Array.from({ length: data.size ** 2 }, () =>
  $("board").appendChild(document.createElement("div")));
$("board").style.gridTemplateColumns = `repeat(${data.size}, 1fr)`;
let game = null, at = 0, timer = null;

function tileAt(move, cell) {
  const code = game.boards[move * cells.length + cell];
  return code === "0" ? 0 : 2 ** parseInt(code, 36);
}

function show(move) {
  at = Math.max(0, Math.min(game.keys.length, move));
  cells.forEach((cell, i) => {
    const tile = tileAt(at, i);
    const [background, ink] = data.colours[tile];
    cell.textContent = tile || "";
    cell.className = at && i === game.spawns[at - 1] ? "new" : "";
    cell.style.background = tile ? background : "var(--empty)";
    cell.style.color = ink;
    cell.style.fontSize = `${Math.min(34, 92 / String(tile).length) * 4 / data.size}px`;
  });
  const first = game.first, key = at ? game.keys[at - 1] : "";
  $("move").textContent = `${(first + at).toLocaleString("en")} of ${game.moves.toLocaleString("en")}`;
  $("score").textContent = game.scores[at].toLocaleString("en");
  $("key").textContent = arrows[key] || (first ? "…" : "start");
  $("at").value = at;
  const rows = [];
  for (let i = 0; i < cells.length; i += data.size)
    rows.push(cells.slice(i, i + data.size).map((cell) => cell.textContent || "empty").join(" "));
  $("board").setAttribute("aria-label", rows.join("; "));
  if (at === game.keys.length) pause();
}

function pick(strategy, rank) {
  pause();
  const games = data.games.filter((each) => each.strategy === strategy);
  game = games.find((each) => each.rank === rank) || games[0];
  $("strategy").value = strategy;
  for (const button of $("ranks").children) {
    button.hidden = !games.some((each) => each.rank === button.value);
    button.setAttribute("aria-pressed", String(button.value === game.rank));
  }
  $("ending").textContent = game.ending;
  $("seed").textContent = game.seed;
  $("at").max = game.keys.length;
  show(0);
}

function pause() {
  clearInterval(timer);
  timer = null;
  $("play").textContent = "▶ play";
}

function play() {
  if (timer) return pause();
  if (at === game.keys.length) show(0);
  const speed = Number($("speed").value);  // moves a second; a screen shows at most 50
  const stride = Math.ceil(speed / 50);
  timer = setInterval(() => show(at + stride), 1000 * stride / speed);
  $("play").textContent = "❚❚ pause";
}

const steps = {
  ArrowRight: () => show(at + 1), ArrowLeft: () => show(at - 1),
  PageUp: () => show(at + 25), PageDown: () => show(at - 25),
  Home: () => show(0), End: () => show(game.keys.length), " ": play,
};
document.addEventListener("keydown", (event) => {
  const inControl = ["SELECT", "BUTTON"].includes(event.target.tagName);
  const plain = !event.ctrlKey && !event.metaKey && !event.altKey;
  if (!plain || !steps[event.key] || (inControl && event.key === " ")) return;
  if (event.target.tagName === "SELECT") return;
  event.preventDefault();
  if (event.key !== " ") pause();
  steps[event.key]();
});
for (const button of document.querySelectorAll("button[data-step]"))
  button.addEventListener("click", () => { pause(); steps[button.dataset.step](); });
$("play").addEventListener("click", play);
$("speed").addEventListener("change", () => { if (timer) { pause(); play(); } });
$("at").addEventListener("input", () => { pause(); show(Number($("at").value)); });
$("strategy").addEventListener("change", () => pick($("strategy").value, game.rank));
for (const button of $("ranks").children)
  button.addEventListener("click", () => pick(game.strategy, button.value));
pick(data.games[0].strategy, data.games[0].rank);
