//! A page to look at: what struck when, what was sent and handled meanwhile, and how long sessions waited for another holder. It needs nothing else.

use std::fmt::Write;
use std::path::PathBuf;

use convoy_conformance::checker::{Fatal, Liveness, Reported};

use crate::judge::{Judged, Lasting};
use crate::plan::{CONSUMERS, node_of, slot_name};
use crate::stage::Stage;

const WIDTH: f64 = 1180.0;
/// Left of it stand names.
const LEFT: f64 = 110.0;
const ROW: f64 = 22.0;
const PLOT: f64 = 170.0;
const SECOND: f64 = 1e9;

const STYLE: &str = "\
:root{--ink:#1c2733;--soft:#66788a;--line:#dde4ea;--paper:#fff;--sent:#8fb8de;--handled:#1f6fb2;--dot:#d1495b;\
--kill:#c0392b;--freeze:#7d5ba6;--link:#d98e04;--broker:#2c3e50;--good:#1e8449}\
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#93a4b3;--line:#2c3640;--paper:#12181f;--broker:#8aa0b5;--handled:#5aa9e6;--sent:#34506b}}\
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:1240px;margin:32px auto;padding:0 24px}\
h1{font-size:24px;margin:0}h2{font-size:16px;margin:34px 0 6px}p{margin:4px 0 0;color:var(--soft)}\
.verdict{font-size:19px;font-weight:600;margin-top:10px}.good{color:var(--good)}.bad{color:var(--kill)}\
.tiles{display:flex;flex-wrap:wrap;gap:12px;margin-top:18px}.tile{border:1px solid var(--line);border-radius:8px;padding:8px 16px}\
.tile b{display:block;font-size:21px;font-variant-numeric:tabular-nums}.tile span{color:var(--soft);font-size:13px}\
svg{width:100%;height:auto;display:block}text{fill:var(--soft);font-size:12px}rect.f:hover,circle:hover{opacity:.6}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums}td,th{padding:3px 18px 3px 0;text-align:left;border-bottom:1px solid var(--line)}\
.key i{display:inline-block;width:12px;height:12px;border-radius:3px;margin:0 6px 0 16px;vertical-align:-1px}pre{white-space:pre-wrap;color:var(--kill)}";

/// Writes `report.html` and says where.
pub(crate) fn write(stage: &Stage, version: &str, judged: &Judged, held: bool) -> Result<PathBuf, String> {
    let path = stage.folder.join("report.html");
    std::fs::write(&path, page(stage, version, judged, held)).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(path)
}

fn page(stage: &Stage, version: &str, judged: &Judged, held: bool) -> String {
    let m = &judged.measured;
    let seed = stage.args.seed;
    let (class, word) = if held { ("good", "The guarantees held.") } else { ("bad", "The guarantees did not hold.") };
    let broken = stage.args.lie.as_ref().map_or(String::new(), |lie| {
        format!(
            "<p>The settle path of the consumers was broken on purpose (<b>{}</b>): this run has to fail.</p>",
            plain(lie)
        )
    });
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\"><title>convoy under faults, seed {seed}</title>\
         <style>{STYLE}</style><h1>convoy on {} {} under faults</h1>\
         <p>Seed {seed}: {} sessions in {} lanes, heartbeat {} s, {} s in all. The same seed gives the same schedule.</p>\
         <div class=\"verdict {class}\">{word}</div>{broken}{}\
         <h2>What was sent and handled, messages a second</h2><p class=key><i style=\"background:var(--sent)\"></i>confirmed<i style=\"background:var(--handled)\"></i>handled</p>{}\
         <h2>What struck</h2><p class=key><i style=\"background:var(--kill)\"></i>kill<i style=\"background:var(--freeze)\"></i>freeze\
         <i style=\"background:var(--link)\"></i>link<i style=\"background:var(--broker)\"></i>broker<i style=\"background:var(--line)\"></i>process is up</p>{}\
         <h2>How long sessions of a killed consumer waited for their next message to be started elsewhere</h2>\
         <p>One dot a session, on a logarithmic scale; from the kill, or from the sending where that came later.</p>{}\
         <h2>What the checker says</h2>{}</html>\n",
        stage.args.backend.title(),
        plain(version),
        stage.args.sessions,
        stage.args.lanes,
        stage.args.heartbeat.as_secs(),
        m.ended / 1_000_000_000,
        tiles(judged),
        throughput(judged),
        timeline(judged, stage.args.nodes),
        takeovers(judged),
        verdict(stage, judged),
    )
}

fn tiles(judged: &Judged) -> String {
    let m = &judged.measured;
    let [p50, p99, max] = judged.calm_ms();
    let tiles = [
        (m.sends_ok.to_string(), "sends confirmed"),
        (m.unknown.to_string(), "outcomes unknown, sent again"),
        (m.handled.to_string(), "runs that ended well"),
        (
            format!("{} of {}", judged.verdict.count(Reported::Duplicate), judged.verdict.duplicates_bound()),
            "duplicates, of as many as the ends of rights explain",
        ),
        (judged.verdict.fatal_total().to_string(), "sessions with a broken guarantee"),
        (format!("{p50} / {p99} / {max} ms"), "takeover while the broker was well: half, 99 %, longest"),
    ];
    let tile = |(value, name): &(String, &str)| format!("<div class=tile><b>{value}</b><span>{name}</span></div>");
    format!("<div class=tiles>{}</div>", tiles.iter().map(tile).collect::<String>())
}

/// The horizontal place of a time.
fn x(judged: &Judged, time: u64) -> f64 {
    LEFT + time as f64 / (judged.measured.ended.max(1) as f64) * (WIDTH - LEFT)
}

fn svg(height: f64, body: &str) -> String {
    format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=img>{body}</svg>")
}

/// A line every so many seconds, and its name below.
fn grid(judged: &Judged, height: f64) -> String {
    let seconds = judged.measured.ended as f64 / SECOND;
    let step = [5.0, 10.0, 20.0, 30.0, 60.0, 120.0].into_iter().find(|step| seconds / step < 14.0).unwrap_or(300.0);
    let mut out = String::new();
    let mut at = 0.0;
    while at <= seconds {
        let x = x(judged, (at * SECOND) as u64);
        let _ = write!(
            out,
            "<line x1={x:.1} x2={x:.1} y1=0 y2={:.1} stroke=\"var(--line)\" /><text x={x:.1} y={:.1} text-anchor=middle>{at} s</text>",
            height - 16.0,
            height - 2.0
        );
        at += step;
    }
    out
}

fn throughput(judged: &Judged) -> String {
    let most = judged.measured.seconds.iter().flatten().copied().max().unwrap_or(1).max(1);
    let y = |count: u32| PLOT - f64::from(count) / f64::from(most) * (PLOT - 10.0);
    let mut body = grid(judged, PLOT + 18.0);
    let points = |which: usize| {
        let mut out = String::new();
        for (second, counts) in judged.measured.seconds.iter().enumerate() {
            let from = (second as u64) * 1_000_000_000;
            let to = (from + 1_000_000_000).min(judged.measured.ended);
            let y = y(counts[which]);
            let _ = write!(out, "{:.1},{y:.1} {:.1},{y:.1} ", x(judged, from), x(judged, to));
        }
        out
    };
    let end = x(judged, judged.measured.ended);
    let _ = write!(
        body,
        "<text x=0 y=14>{most}/s</text><text x=0 y={PLOT}>0</text>\
         <polygon points=\"{LEFT},{PLOT} {}{end:.1},{PLOT}\" fill=\"var(--sent)\"/>\
         <polyline points=\"{}\" fill=none stroke=\"var(--handled)\" stroke-width=1.6 />",
        points(0),
        points(1)
    );
    svg(PLOT + 18.0, &body)
}

/// A row for each node of the broker and for each place of a worker.
fn timeline(judged: &Judged, nodes: usize) -> String {
    let workers = judged.slots.values().copied().max().map_or(0, |most| most + 1);
    let height = ROW * (workers + nodes) as f64 + 22.0;
    let mut body = grid(judged, height);
    for at in 0..nodes {
        let name = if nodes == 1 { "broker".to_owned() } else { format!("node {}", at + 1) };
        let _ = write!(body, "<text x=0 y={:.1}>{name}</text>", ROW * at as f64 + 15.0);
    }
    for at in 0..workers {
        let y = ROW * (at + nodes) as f64;
        let _ = write!(body, "<text x=0 y={:.1}>{}</text>", y + 15.0, slot_name(at));
    }
    for (process, (from, to)) in &judged.measured.lives {
        let Some(slot) = judged.slots.get(process) else { continue };
        let (from, to) = (x(judged, *from), x(judged, *to));
        let y = ROW * (slot + nodes) as f64 + 4.0;
        let _ = write!(
            body,
            "<rect x={from:.1} y={y:.1} width={:.1} height=14 rx=3 fill=\"var(--line)\"><title>process {process}</title></rect>",
            (to - from).max(1.0)
        );
    }
    for fault in &judged.measured.faults {
        let row = match judged.slots.get(&fault.target) {
            Some(slot) => slot + nodes,
            None if fault.is_of_broker() => node_of(fault.target).unwrap_or(0),
            None => continue,
        };
        let (from, to) = (x(judged, fault.from), x(judged, fault.to.unwrap_or(judged.measured.ended)));
        let lasts = fault.to.map_or(0.0, |to| (to - fault.from) as f64 / SECOND);
        let _ = write!(
            body,
            "<rect class=f x={:.1} y={:.1} width={:.1} height=18 rx=3 fill=\"var({})\"><title>{} at {:.1} s, {lasts:.2} s</title></rect>",
            from,
            ROW * row as f64 + 2.0,
            (to - from).max(3.0),
            colour(fault),
            fault.name,
            fault.from as f64 / SECOND,
        );
    }
    svg(height, &body)
}

fn colour(fault: &Lasting) -> &'static str {
    match fault.name {
        "kill" => "--kill",
        "freeze" => "--freeze",
        _ if fault.is_of_broker() => "--broker",
        _ => "--link",
    }
}

fn takeovers(judged: &Judged) -> String {
    let y = |ns: u64| {
        let ms = (ns as f64 / 1e6).max(1.0);
        PLOT - ms.log10() / 5.0 * (PLOT - 10.0)
    };
    let mut body = grid(judged, PLOT + 18.0);
    for (ms, name) in [(1, "1 ms"), (10, "10 ms"), (100, "100 ms"), (1000, "1 s"), (10_000, "10 s")] {
        let y = y(ms * 1_000_000);
        let _ = write!(
            body,
            "<line x1={LEFT} x2={WIDTH} y1={y:.1} y2={y:.1} stroke=\"var(--line)\"/><text x=0 y={:.1}>{name}</text>",
            y + 4.0
        );
    }
    for (at, took) in &judged.measured.takeovers {
        let _ = write!(
            body,
            "<circle cx={:.1} cy={:.1} r=2.2 fill=\"var(--dot)\" fill-opacity=.45><title>{} ms</title></circle>",
            x(judged, *at),
            y(*took),
            took / 1_000_000
        );
    }
    svg(PLOT + 18.0, &body)
}

fn verdict(stage: &Stage, judged: &Judged) -> String {
    let verdict = &judged.verdict;
    let mut rows = String::new();
    let mut row = |name: &str, count: u64, what: &str| {
        let _ = write!(rows, "<tr><td>{name}<td>{count}<td>{what}");
    };
    for name in Fatal::ALL {
        row(name.name(), verdict.found(*name), if verdict.found(*name) > 0 { "<b class=bad>fatal</b>" } else { "" });
    }
    for name in Reported::ALL {
        let spread = verdict.spread(*name).map_or(String::new(), |spread| {
            let ms = |ns: u64| ns as f64 / 1e6;
            format!("half {:.1} ms, 99 % {:.1} ms, longest {:.1} ms", ms(spread.p50), ms(spread.p99), ms(spread.max))
        });
        row(name.name(), verdict.count(*name), &format!("reported {spread}"));
    }
    for name in Liveness::ALL {
        row(name.name(), verdict.left(*name), "left at the end");
    }
    let mut told = String::new();
    verdict.findings().iter().for_each(|finding| _ = writeln!(told, "{finding}"));
    stage.troubles().iter().for_each(|trouble| _ = writeln!(told, "{trouble}"));
    let told = if told.is_empty() { told } else { format!("<pre>{}</pre>", plain(&told)) };
    format!(
        "{told}<table><tr><th>name<th>found<th>{rows}</table><p>{} consumers, {} workers in all.</p>",
        CONSUMERS,
        judged.slots.len()
    )
}

/// Text that is no markup.
fn plain(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
