//! The page's look: system fonts, tabular figures, one set of variables for light, dark and paper.

/// All of it.
pub const CSS: &str = r"
:root{color-scheme:light dark;--bg:#fbfbfa;--card:#fff;--ink:#1c1e21;--dim:#5a6068;--rule:#d9dce0;--accent:#0b5fa5;
--ok:#1a6b3c;--bad:#b3261e;--open:#8a5a00;--void:#7b2d8b;--none:#5a6068;
--s0:#0b5fa5;--s1:#c2570c;--s2:#1a7f4f;--s3:#8e3b9e;--s4:#94690a;--s5:#55606b;--shade:#b3261e1f;--warm:#5a60681a}
@media (prefers-color-scheme:dark){:root{--bg:#15171a;--card:#1c1f23;--ink:#e7e9ec;--dim:#a3abb5;--rule:#363b42;--accent:#78b7f0;
--ok:#6fcf97;--bad:#ff8a80;--open:#f0b654;--void:#d89be6;--none:#a3abb5;
--s0:#78b7f0;--s1:#f5a25d;--s2:#6fcf97;--s3:#d89be6;--s4:#e3c45c;--s5:#a3abb5;--shade:#ff8a8030;--warm:#a3abb522}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0 auto;padding:1.25rem;max-width:66rem;background:var(--bg);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;font-variant-numeric:tabular-nums}
a{color:var(--accent)}
a:focus-visible,summary:focus-visible,.scroll:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
.skip{position:absolute;left:-99rem}.skip:focus{left:1rem;top:.5rem}
h1{font-size:1.6rem;margin:.1rem 0 .2rem;letter-spacing:-.01em}
h2{font-size:1.2rem;margin:2.4rem 0 .5rem;padding-top:.9rem;border-top:1px solid var(--rule)}
h3{font-size:1rem;margin:1.4rem 0 .4rem}
p{margin:.4rem 0}
code{font:.92em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
.kicker,.run,.meta,.dim,figcaption,.links,footer{color:var(--dim)}
.kicker{margin:0;font-size:.85rem}
.banner{border:1px solid var(--rule);border-left:5px solid var(--none);background:var(--card);padding:.7rem 1rem;margin:1rem 0 1.2rem;border-radius:4px}
.banner .headline{font-size:1.2rem;font-weight:600;margin:0 0 .2rem}
.banner.pass{border-left-color:var(--ok)}.banner.fail{border-left-color:var(--bad)}
.banner.inconclusive{border-left-color:var(--open)}.banner.invalid{border-left-color:var(--void)}
.banner.pass .shape{color:var(--ok)}.banner.fail .shape{color:var(--bad)}
.banner.inconclusive .shape{color:var(--open)}.banner.invalid .shape{color:var(--void)}
table{border-collapse:collapse;width:100%;margin:.4rem 0 1rem;font-size:.92rem}
caption{text-align:left;font-weight:600;padding:.6rem 0 .25rem;font-size:1rem}
th,td{text-align:left;vertical-align:top;padding:.34rem .7rem .34rem 0;border-bottom:1px solid var(--rule)}
thead th{font-weight:500;color:var(--dim);font-size:.85rem}
tbody th{font-weight:500}
td.num{white-space:nowrap}
.why{color:var(--dim);font-size:.88rem;overflow-wrap:anywhere}
.state{white-space:nowrap;font-weight:600}
.state.pass{color:var(--ok)}.state.fail{color:var(--bad)}.state.inconclusive{color:var(--open)}
.state.invalid{color:var(--void)}.state.not-run{color:var(--none);font-weight:500}
.tag{display:inline-block;font-size:.76rem;color:var(--dim);border:1px solid var(--rule);border-radius:3px;padding:0 .35rem;margin-left:.35rem}
figure{margin:1rem 0 1.4rem;break-inside:avoid}
figcaption{margin-bottom:.3rem}figcaption strong{color:var(--ink);font-weight:600}
.scroll{overflow-x:auto;background:var(--card);border:1px solid var(--rule);border-radius:4px}
svg.plot{display:block;width:100%;min-width:35rem;height:auto}
svg.plot text{fill:var(--dim);font:11.5px system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;font-variant-numeric:tabular-nums}
.grid{stroke:var(--rule);stroke-width:.7}.axis,.tick{stroke:var(--dim);stroke-width:1}
.line{fill:none;stroke-width:1.7;stroke-linejoin:round}
.line.s1{stroke-dasharray:7 3}.line.s2{stroke-dasharray:2 3}.line.s3{stroke-dasharray:9 3 2 3}.line.s4{stroke-dasharray:4 4}
.line.fit{stroke-width:1.4;stroke-dasharray:none}.line.reference{stroke-width:1.2;stroke-dasharray:3 4}
.line.s0,.dot.s0{stroke:var(--s0)}.line.s1,.dot.s1{stroke:var(--s1)}.line.s2,.dot.s2{stroke:var(--s2)}
.line.s3,.dot.s3{stroke:var(--s3)}.line.s4,.dot.s4{stroke:var(--s4)}.line.s5,.dot.s5{stroke:var(--s5)}
.dot{fill:none;stroke-width:1.2}
rect.s0,.area.s0{fill:var(--s0)}rect.s1,.area.s1{fill:var(--s1)}rect.s2,.area.s2{fill:var(--s2)}
rect.s3,.area.s3{fill:var(--s3)}rect.s4,.area.s4{fill:var(--s4)}rect.s5,.area.s5{fill:var(--s5)}
.area{opacity:.75;stroke:var(--card);stroke-width:1}
.band{fill:var(--s5);opacity:.2}.mark{stroke:var(--bad);stroke-width:1.2;stroke-dasharray:6 4}
.fault{fill:var(--shade)}.warm{fill:var(--warm)}.hatch{fill:var(--warm)}.hatching{stroke:var(--rule);stroke-width:1}
.links{font-size:.85rem;margin:.25rem 0}
details>summary{cursor:pointer;color:var(--accent)}
.links details{display:inline}.links details summary{display:inline;text-decoration:underline}
ul.plain{list-style:none;padding:0;margin:.4rem 0}ul.plain li{padding:.22rem 0}
nav ul{columns:2 22rem}
dl{display:grid;grid-template-columns:minmax(9rem,14rem) 1fr;gap:.2rem 1rem;margin:.4rem 0}dt{color:var(--dim)}dd{margin:0;overflow-wrap:anywhere}
footer{margin-top:2rem;border-top:1px solid var(--rule);padding-top:.6rem;font-size:.85rem}
@media (max-width:44rem){body{padding:.8rem;font-size:15px}
table.stack thead{position:absolute;left:-99rem}
table.stack,table.stack tbody,table.stack caption{display:block}
table.stack tr{display:flex;flex-wrap:wrap;gap:.05rem 1rem;border-bottom:1px solid var(--rule);padding:.5rem 0}
table.stack th,table.stack td{border:0;padding:0;white-space:normal}
table.stack tbody th,table.stack td.why{flex:1 0 100%}
table.stack td[data-label]::before{content:attr(data-label) ' ';color:var(--dim);font-size:.85rem}
table.stack td:empty{display:none}
dl{grid-template-columns:1fr}dd{margin-bottom:.35rem}}
@media print{:root{--bg:#fff;--card:#fff;--ink:#000;--dim:#444;--rule:#bbb;--accent:#000;--ok:#0a4d28;--bad:#8f1d16;--open:#6b4600;--void:#5c1f69;--none:#444;
--s0:#0b5fa5;--s1:#c2570c;--s2:#1a7f4f;--s3:#8e3b9e;--s4:#94690a;--s5:#55606b}
body{max-width:none;padding:0;font-size:10.5pt}.skip,.links{display:none}tr,figure,.banner{break-inside:avoid}h2,h3{break-after:avoid}
svg.plot{min-width:0}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
";
