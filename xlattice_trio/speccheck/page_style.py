"""How the page of a trace looks: on a desk and on a telephone, by day and by night."""

STYLE = """\
:root {
  color-scheme: light dark;
  --paper: #fff; --ink: #1c2024; --quiet: #5b6470; --line: #d8dce1; --shade: #f4f5f7; --link: #0b57a4;
  --tested: #1a7340; --untested: #8a5a00; --unimplemented: #7d3c98; --missing: #b3261e; --exempt: #2f5d8a;
  --withdrawn: #5b6470;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #15181c; --ink: #e3e6ea; --quiet: #9aa4b0; --line: #343a42; --shade: #1e2227; --link: #7db4f0;
    --tested: #5cc98a; --untested: #e0ab4a; --unimplemented: #cf9be6; --missing: #f2837b; --exempt: #86b6e6;
    --withdrawn: #9aa4b0;
  }
}
* { box-sizing: border-box }
html { scroll-padding-top: 1rem; -webkit-text-size-adjust: 100% }
body {
  margin: 0 auto; max-width: 84rem; display: grid; grid-template-columns: 20rem minmax(0, 1fr);
  font: 1rem/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper);
}
main { padding: 1.5rem 2.5rem 6rem; max-width: 60rem; overflow-wrap: break-word }
aside {
  position: sticky; top: 0; height: 100vh; overflow-y: auto; padding: 1.5rem 1rem 3rem 1.5rem;
  border-right: 1px solid var(--line); font-size: .875rem;
}
a[href] { color: var(--link) }
h1, h2, h3, h4 { line-height: 1.25; margin: 2em 0 .6em }
h1 { font-size: 1.8rem; margin-top: 1em; padding-bottom: .3em; border-bottom: 2px solid var(--line) }
h2 { font-size: 1.3rem }
h3 { font-size: 1.05rem }
h4 { font-size: .85rem; margin: 1em 0 .3em; color: var(--quiet) }
section section { margin-top: 1.5rem }
code, pre { font: .9em/1.45 ui-monospace, Menlo, Consolas, monospace }
code { overflow-wrap: anywhere }
pre { background: var(--shade); padding: .7em .9em; overflow-x: auto; border-radius: 4px }
pre code { font-size: 1em; overflow-wrap: normal }
.scroll { overflow-x: auto; margin: 1em 0 }
.scroll table { border-collapse: collapse; font-size: .9rem }
.scroll :is(th, td) { border: 1px solid var(--line); padding: .3em .6em; text-align: left; vertical-align: top }
.scroll th { background: var(--shade) }
.scroll td code { overflow-wrap: normal }
ul.reqs { padding: 0; list-style: none }
ol.reqs { padding-left: 2.2em }
.req {
  margin: .8em 0; padding: .5em .9em .6em; background: var(--shade); border-left: 5px solid var(--state);
  border-radius: 0 4px 4px 0;
}
.req:target { outline: 2px solid var(--link) }
.req .head { margin: 0 0 .2em; font-size: .82rem; color: var(--quiet) }
.req a.id { font-weight: 700; text-decoration: none; color: var(--ink) }
.req details { margin-top: .4em; font-size: .85rem }
.req summary { cursor: pointer; color: var(--quiet) }
.req details ul { padding-left: 1.2em; margin: .2em 0 }
.req details pre { background: var(--paper); margin: .2em 0 .8em }
.req .why { margin: .3em 0 0; font-size: .85rem; color: var(--quiet) }
.req .place { margin: .3em 0 0 }
.badge {
  display: inline-block; padding: 0 .5em; border: 1px solid var(--state); border-radius: 1em;
  color: var(--state); background: var(--paper); font-size: .78rem; font-weight: 600; white-space: nowrap;
}
.tested { --state: var(--tested) }
.untested { --state: var(--untested) }
.unimplemented { --state: var(--unimplemented) }
.missing { --state: var(--missing) }
.exempt { --state: var(--exempt) }
.withdrawn { --state: var(--withdrawn) }
.summary { border-collapse: collapse; width: 100% }
.summary caption { text-align: left; font-weight: 600; padding-bottom: .5em }
.summary :is(th, td) { text-align: right; padding: .15em .2em; font-weight: 400 }
.summary :is(thead th, thead td) { color: var(--quiet); font-size: .75rem }
.summary tbody th { text-align: left }
.filter fieldset { border: 0; padding: 0; margin: 1.2em 0 }
.filter legend { font-weight: 600; padding: 0 0 .3em }
.filter label { display: block; padding: .15em 0 }
nav ul { list-style: none; padding: 0; margin: 0 }
nav > ul > li { margin: .5em 0 }
nav > ul > li > a { font-weight: 600 }
nav ul ul { padding-left: .8em }
nav a { text-decoration: none; display: inline-block; padding: .1em 0 }
nav a:hover { text-decoration: underline }
@media (max-width: 56rem) {
  body { display: block }
  aside { position: static; height: auto; border-right: 0; border-bottom: 1px solid var(--line); padding: 1rem }
  main { padding: 1rem 1rem 4rem }
  .filter fieldset { display: flex; flex-wrap: wrap; gap: .2em 1.2em }
  nav > ul { columns: 2; column-gap: 1rem }
  nav ul ul { display: none }
  ol.reqs { padding-left: 1.7em }
  .req { padding: .5em .6em }
  .scroll td:last-child { min-width: 12rem }
}
@media print {
  body { display: block }
  aside { display: none }
}
"""
