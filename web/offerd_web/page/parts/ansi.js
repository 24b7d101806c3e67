// Terminal output as pieces of text with styles. Only colours and weights are understood; all else of the kind is left out.

const SEQUENCE = /\x1b(?:\[([0-9;:]*)([@-~])|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])/g;
const UNFINISHED = /\x1b(?:\[[0-9;:]*|\][^\x07\x1b]{0,4096}|)$|\r$/;
const CONTROLS = /[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f]/g;

export class Ansi {
  constructor() {
    this._rest = "";
    this._style = {};
  }

  /** [{text, style}] of the next piece of output. style: {fg, bg: 0 to 255 or "r,g,b", bold, faint, italic, underline, inverse} */
  feed(piece) {
    let text = this._rest + piece;
    const unfinished = UNFINISHED.exec(text); // a sequence, or the end of a line, that the next piece completes
    this._rest = unfinished ? unfinished[0] : "";
    if (unfinished) text = text.slice(0, unfinished.index);
    const pieces = [];
    let from = 0;
    for (const match of text.matchAll(SEQUENCE)) {
      this._push(pieces, text.slice(from, match.index));
      from = match.index + match[0].length;
      if (match[2] === "m") this._style = changed(this._style, match[1]);
    }
    this._push(pieces, text.slice(from));
    return pieces;
  }

  _push(pieces, text) {
    const clean = text.replace(/\r\n?/g, "\n").replace(CONTROLS, "").replace(/\x1b/g, "");
    if (clean) pieces.push({ text: clean, style: this._style });
  }
}

function changed(before, codes) {
  const style = { ...before };
  const numbers = codes.split(/[;:]/).map((code) => Number(code) || 0);
  for (let at = 0; at < numbers.length; at++) {
    const code = numbers[at];
    if (code === 0) for (const name of Object.keys(style)) delete style[name];
    else if (code === 1) style.bold = true;
    else if (code === 2) style.faint = true;
    else if (code === 3) style.italic = true;
    else if (code === 4) style.underline = true;
    else if (code === 7) style.inverse = true;
    else if (code === 22) delete style.bold, delete style.faint;
    else if (code === 23) delete style.italic;
    else if (code === 24) delete style.underline;
    else if (code === 27) delete style.inverse;
    else if (code >= 30 && code <= 37) style.fg = code - 30;
    else if (code >= 90 && code <= 97) style.fg = code - 82;
    else if (code === 39) delete style.fg;
    else if (code >= 40 && code <= 47) style.bg = code - 40;
    else if (code >= 100 && code <= 107) style.bg = code - 92;
    else if (code === 49) delete style.bg;
    else if (code === 38 || code === 48) {
      const name = code === 38 ? "fg" : "bg";
      if (numbers[at + 1] === 5) {
        style[name] = numbers[at + 2] & 255;
        at += 2;
      } else if (numbers[at + 1] === 2) {
        style[name] = numbers.slice(at + 2, at + 5).map((part) => part & 255).join(",");
        at += 4;
      }
    }
  }
  return style;
}

/** The CSS colour of 16 to 255 of the 256 colours, or of "r,g,b". */
export function rgb(colour) {
  if (typeof colour === "string") return `rgb(${colour})`;
  if (colour >= 232) return `rgb(${[0, 0, 0].fill(8 + (colour - 232) * 10).join(",")})`;
  const cube = colour - 16;
  return `rgb(${[36, 6, 1].map((size) => Math.floor(cube / size) % 6).map((step) => (step ? 55 + 40 * step : 0)).join(",")})`;
}
