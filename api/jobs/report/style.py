"""The style sheet of the report's page: light and dark, narrow, wide and on paper."""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --ink: #1b1f24; --quiet: #59636e; --line: #d1d9e0; --card: #f6f8fa;
  --good: #116329; --bad: #a40e26; --a: #0550ae; --b: #8250df; --c: #953800;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #0d1117; --ink: #e6edf3; --quiet: #9198a1; --line: #3d444d; --card: #161b22;
    --good: #56d364; --bad: #ff7b72; --a: #79c0ff; --b: #d2a8ff; --c: #ffa657;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1rem; max-width: 64rem;
  background: var(--paper); color: var(--ink); font: 1rem/1.5 system-ui, sans-serif;
}
h1 { margin: 0 0 .5rem; font-size: 1.4rem; line-height: 1.3; }
h2 { margin: 2rem 0 .25rem; font-size: 1.15rem; }
p { margin: .5rem 0; max-width: 46rem; }
.quiet, footer { color: var(--quiet); font-size: .9rem; }
.better { color: var(--good); }
.worse { color: var(--bad); }
ul.advice { padding-left: 1.2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: .75rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: right; }
td { white-space: nowrap; }
th:first-child { text-align: left; }
tbody th { min-width: 8rem; font-weight: normal; overflow-wrap: break-word; }
td.right { font-weight: 700; color: var(--good); }
td.wrong { font-weight: 700; color: var(--bad); }
td.none { color: var(--quiet); }
ul.pictures {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: .75rem;
  margin: .75rem 0; padding: 0; list-style: none;
}
ul.pictures li {
  border: 1px solid var(--line); border-radius: .5rem; background: var(--card); overflow: hidden;
  break-inside: avoid;
}
ul.pictures img { display: block; width: 100%; height: 9rem; object-fit: contain; background: #fff; }
ul.pictures div { padding: .4rem .6rem; font-size: .85rem; line-height: 1.35; overflow-wrap: anywhere; }
svg { width: 100%; max-width: 36rem; height: auto; font-size: 11px; }
svg text { fill: var(--quiet); }
.grid { stroke: var(--line); }
.chosen { stroke: var(--ink); stroke-dasharray: 3 3; }
.line { fill: none; stroke-width: 2; }
.line.a { stroke: var(--a); } .dot.a, text.a { fill: var(--a); }
.line.b { stroke: var(--b); } .dot.b, text.b { fill: var(--b); }
.line.c { stroke: var(--c); } .dot.c, text.c { fill: var(--c); }
footer { margin-top: 2.5rem; padding-top: .75rem; border-top: 1px solid var(--line); }
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  h2 { break-after: avoid; }
  table, svg { break-inside: avoid; }
}
"""
