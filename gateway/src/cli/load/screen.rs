//! A run on the whole screen: response times, rates, and where a gateway is looked at, replicas, queue and decisions.

use std::{
    io::{self, Stderr},
    sync::Arc,
    time::Duration,
};

use ratatui::{
    Frame, Terminal,
    backend::CrosstermBackend,
    crossterm::{
        event::{self, Event, KeyCode, KeyEvent, KeyModifiers},
        execute,
        terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
    },
    layout::{Constraint, Layout, Rect},
    style::{Color, Style, Stylize},
    symbols::Marker,
    text::{Line, Span},
    widgets::{Axis, Block, Chart, Dataset, GraphType, LegendPosition, LineGauge, Paragraph},
};
use tidegate_loadtest::{Pattern, Snapshot, overlay::Overlay, report::human};
use tokio::sync::Notify;

use super::{
    args::Asked,
    history::{Curve, History},
};

/// Decisions that are listed.
const DECISIONS: usize = 5;

/// The terminal, while it is ours.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<Stderr>>,
    view: View,
    stop: Arc<Notify>,
    abort: Arc<Notify>,
    stopped: bool,
}

/// What is on it.
struct View {
    title: String,
    pattern: Pattern,
    history: History,
}

impl Screen {
    pub(super) fn open(asked: &Asked, stop: Arc<Notify>, abort: Arc<Notify>) -> io::Result<Self> {
        enable_raw_mode()?;
        let mut out = io::stderr();
        execute!(out, EnterAlternateScreen)?;
        let terminal = Terminal::new(CrosstermBackend::new(out))?;
        Ok(Self { terminal, view: View::new(asked), stop, abort, stopped: false })
    }

    pub(super) fn show(&mut self, snapshot: &Snapshot, seen: Option<&Overlay>) {
        self.listen();
        let planned = self.view.planned(snapshot.elapsed);
        self.view.history.note(snapshot, planned, seen);
        let (view, stopped) = (&self.view, self.stopped);
        // A terminal that cannot be drawn on is no reason to stop sending.
        let _ = self.terminal.draw(|frame| view.draw(frame, snapshot, seen, stopped));
    }

    /// The first q or Ctrl-C ends the plan, the second what is under way.
    fn listen(&mut self) {
        while let Ok(true) = event::poll(Duration::ZERO) {
            let Ok(Event::Key(KeyEvent { code, modifiers, .. })) = event::read() else { continue };
            let ends = code == KeyCode::Char('q')
                || (code == KeyCode::Char('c') && modifiers == KeyModifiers::CONTROL);
            if ends && self.stopped {
                self.abort.notify_one();
            } else if ends {
                self.stopped = true;
                self.stop.notify_one();
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = disable_raw_mode();
        let _ = execute!(io::stderr(), LeaveAlternateScreen);
        let _ = self.terminal.show_cursor();
    }
}

impl View {
    fn new(asked: &Asked) -> Self {
        let first = asked.options.aims.first().map_or("", |aim| &aim.url);
        let title = if asked.name.is_empty() { first.to_owned() } else { asked.name.clone() };
        Self { title, pattern: asked.pattern.clone(), history: History::default() }
    }

    fn planned(&self, at: Duration) -> f64 {
        match &self.pattern {
            Pattern::Open(plan) => plan.shape().rate_at(at),
            Pattern::Closed(_) => 0.0,
        }
    }

    fn phase(&self, at: Duration) -> String {
        match &self.pattern {
            Pattern::Open(plan) => plan
                .phases()
                .into_iter()
                .find(|phase| at < phase.end)
                .map_or_else(String::new, |phase| phase.name),
            Pattern::Closed(closed) => format!("{} users, closed loop", closed.users),
        }
    }

    fn draw(&self, frame: &mut Frame<'_>, snapshot: &Snapshot, seen: Option<&Overlay>, stopped: bool) {
        let listed = seen.map_or(0, |_| DECISIONS as u16 + 2);
        let [head, figures, charts, decisions, foot] = Layout::vertical([
            Constraint::Length(2),
            Constraint::Length(2),
            Constraint::Min(8),
            Constraint::Length(listed),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        self.head(frame, head, snapshot);
        frame.render_widget(Paragraph::new(words(snapshot, self.planned(snapshot.elapsed))), figures);
        self.charts(frame, charts, seen.is_some(), snapshot.elapsed);
        if let Some(seen) = seen {
            frame.render_widget(list(seen), decisions);
        }
        let keys = if stopped {
            " ending; q again gives up what is under way"
        } else {
            " q ends the plan and reports what was measured"
        };
        frame.render_widget(Paragraph::new(keys).dim(), foot);
    }

    fn head(&self, frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot) {
        let [title, bar] = Layout::vertical([Constraint::Length(1), Constraint::Length(1)]).areas(area);
        let whole = self.pattern.duration();
        let line = Line::from(vec![
            Span::from(" tidegate load  ").bold(),
            Span::from(self.title.clone()).cyan(),
            Span::from(format!("  {}", self.phase(snapshot.elapsed))).dim(),
        ]);
        frame.render_widget(Paragraph::new(line), title);
        let share = (snapshot.elapsed.as_secs_f64() / whole.as_secs_f64()).clamp(0.0, 1.0);
        let label = format!("{:.0}s of {:.0}s", snapshot.elapsed.as_secs_f64(), whole.as_secs_f64());
        let gauge = LineGauge::default().ratio(share).label(label).filled_style(Style::new().fg(Color::Cyan));
        frame.render_widget(gauge, bar);
    }

    fn charts(&self, frame: &mut Frame<'_>, area: Rect, replicas: bool, now: Duration) {
        let [top, bottom] = Layout::vertical([Constraint::Fill(1), Constraint::Fill(1)]).areas(area);
        let end = self.pattern.duration().max(now).as_secs_f64();
        if !replicas {
            frame.render_widget_chart(&self.times(), end, top);
            frame.render_widget_chart(&self.rates(), end, bottom);
            return;
        }
        let halves = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]);
        let ([left, right], [low_left, low_right]) = (halves.areas(top), halves.areas(bottom));
        frame.render_widget_chart(&self.times(), end, left);
        frame.render_widget_chart(&self.rates(), end, right);
        let panel = |title, curves: &[(&'static str, Curve, Color)]| {
            Panel::linear(
                title,
                curves
                    .iter()
                    .map(|(name, curve, color)| (*name, self.history.curve(*curve), *color))
                    .collect(),
            )
        };
        let of_replicas = [
            ("there", Curve::Replicas, Color::Yellow),
            ("ready", Curve::Ready, Color::Green),
            ("wanted", Curve::Want, Color::White),
        ];
        frame.render_widget_chart(&panel("replicas", &of_replicas), end, low_left);
        let of_queue =
            [("in flight", Curve::InFlight, Color::Blue), ("waiting there", Curve::Queued, Color::Red)];
        frame.render_widget_chart(&panel("requests", &of_queue), end, low_right);
    }

    fn times(&self) -> Panel {
        let log = |curve| {
            self.history
                .curve(curve)
                .into_iter()
                .map(|(at, s): (f64, f64)| (at, s.max(1e-6).log10()))
                .collect()
        };
        Panel::logarithmic(
            "response time",
            vec![("p99", log(Curve::P99), Color::Magenta), ("p50", log(Curve::P50), Color::Cyan)],
        )
    }

    fn rates(&self) -> Panel {
        let mut curves = vec![("answered", self.history.curve(Curve::Rate), Color::Green)];
        if matches!(self.pattern, Pattern::Open(_)) {
            curves.insert(0, ("planned", self.history.curve(Curve::Planned), Color::DarkGray));
        }
        Panel::linear("requests per second", curves)
    }
}

/// A curve as it is drawn: its name, its points and its colour.
type Drawn = (&'static str, Vec<(f64, f64)>, Color);

/// One chart: what it draws, from where to where, and what stands beside the scale.
struct Panel {
    title: &'static str,
    curves: Vec<Drawn>,
    bounds: [f64; 2],
    labels: Vec<String>,
}

impl Panel {
    fn linear(title: &'static str, curves: Vec<Drawn>) -> Self {
        let most = nice(
            curves.iter().flat_map(|(_, points, _)| points).map(|(_, value)| *value).fold(0.0, f64::max),
        );
        let labels = vec!["0".to_owned(), format!("{:.0}", most / 2.0), format!("{most:.0}")];
        Self { title, curves, bounds: [0.0, most], labels }
    }

    /// Of decimal logarithms of seconds.
    fn logarithmic(title: &'static str, curves: Vec<Drawn>) -> Self {
        let values = || curves.iter().flat_map(|(_, points, _)| points).map(|(_, value)| *value);
        let low = values().fold(0.0, f64::min).floor().clamp(-6.0, -1.0);
        let high = values().fold(low + 1.0, f64::max).ceil();
        #[expect(clippy::cast_possible_truncation, reason = "a handful of decades")]
        let decades = (low as i32)..=(high as i32);
        let labels = decades.map(|decade| human(Duration::from_secs_f64(10_f64.powi(decade)))).collect();
        Self { title, curves, bounds: [low, high], labels }
    }
}

/// The end of an axis for values up to `most`, of which the half is a whole number, too.
fn nice(most: f64) -> f64 {
    let power = 10_f64.powf(most.max(1.0).log10().floor());
    [2.0, 4.0, 6.0, 8.0, 10.0, 20.0]
        .map(|step| step * power)
        .into_iter()
        .find(|end| *end > most)
        .unwrap_or(most)
}

/// Stretches in which something is known: over a pause there is no line.
fn stretches(points: &[(f64, f64)], longest: f64) -> impl Iterator<Item = &[(f64, f64)]> {
    points.chunk_by(move |(one, _), (next, _)| next - one <= longest)
}

trait Draw {
    fn render_widget_chart(&mut self, panel: &Panel, end: f64, area: Rect);
}

impl Draw for Frame<'_> {
    fn render_widget_chart(&mut self, panel: &Panel, end: f64, area: Rect) {
        // Points come four times a second, or where more time is to be shown, some hundreds in all.
        let longest = (end / 60.0).max(1.0);
        let sets = panel.curves.iter().flat_map(|(name, points, color)| {
            let set = |stretch| {
                Dataset::default()
                    .marker(Marker::Braille)
                    .graph_type(GraphType::Line)
                    .style(Style::new().fg(*color))
                    .data(stretch)
            };
            // The first one, which may be empty, stands in the legend.
            std::iter::once(set(&[]).name(*name)).chain(stretches(points, longest).map(set))
        });
        let soft = Style::new().fg(Color::DarkGray);
        let seconds = [0.0, end / 2.0, end].map(|at| format!("{at:.0}s"));
        let chart = Chart::new(sets.collect())
            .block(Block::bordered().title(format!(" {} ", panel.title)).border_style(soft))
            .x_axis(Axis::default().bounds([0.0, end]).labels(seconds).style(soft))
            .y_axis(Axis::default().bounds(panel.bounds).labels(panel.labels.clone()).style(soft))
            .legend_position(Some(LegendPosition::TopRight))
            .hidden_legend_constraints((Constraint::Ratio(1, 2), Constraint::Ratio(2, 3)));
        self.render_widget(chart, area);
    }
}

fn words(snapshot: &Snapshot, planned: f64) -> Vec<Line<'static>> {
    let Snapshot { sent, done, errors, in_flight, behind, rate, p50, p90, p99, .. } = *snapshot;
    let time = |time: Option<Duration>| time.map_or_else(|| "-".to_owned(), human);
    let late = behind > Duration::from_millis(100);
    let mut first = vec![
        Span::from(format!(" {rate:.0}/s")).bold(),
        Span::from(format!(" answered, {planned:.0}/s planned   {sent} sent, {done} done   ")),
        if errors > 0 { format!("{errors} errors").red().bold() } else { "no errors".green() },
    ];
    if late {
        first.push(format!("   {} behind", human(behind)).yellow());
    }
    let second = format!(
        " last second: p50 {}  p90 {}  p99 {}   {in_flight} in flight",
        time(p50),
        time(p90),
        time(p99)
    );
    vec![Line::from(first), Line::from(second).dim()]
}

fn list(seen: &Overlay) -> Paragraph<'static> {
    let last = seen.decisions.len().saturating_sub(DECISIONS);
    let line = |decision: &tidegate_loadtest::overlay::Decision| {
        Line::from(vec![
            Span::from(format!(" {:>6.1}s ", decision.at)).dim(),
            Span::from(format!("want {:<3}", decision.want)).bold(),
            Span::from(decision.reason.clone()),
        ])
    };
    let lines: Vec<Line<'static>> = seen.decisions[last..].iter().map(line).collect();
    let title = format!(" decisions about {} ", seen.service);
    Paragraph::new(lines).block(Block::bordered().title(title).border_style(Style::new().fg(Color::DarkGray)))
}

#[cfg(test)]
mod tests {
    use ratatui::backend::TestBackend;
    use tidegate_loadtest::{
        Options,
        overlay::{Decision, Look},
        plan::Plan,
    };

    use super::*;
    use crate::cli::load::history::tests::snapshot;

    fn drawn(seen: Option<&Overlay>, size: (u16, u16)) -> String {
        let plan = Plan::even(200.0, Duration::from_secs(60)).expect("valid");
        let asked = Asked {
            name: "burst".into(),
            options: Options::new("http://a/"),
            pattern: plan.into(),
            promises: Vec::new(),
            slo: None,
        };
        let mut view = View::new(&asked);
        (0..30).for_each(|second| view.history.note(&snapshot(second), 200.0, seen));
        let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).expect("a terminal");
        terminal.draw(|frame| view.draw(frame, &snapshot(30), seen, false)).expect("drawn");
        terminal.backend().to_string()
    }

    #[test]
    fn it_shows_what_is_known() {
        let text = drawn(None, (100, 30));
        for part in [
            "burst",
            "const 200",
            "30s of 60s",
            "190/s",
            "200/s planned",
            "1 errors",
            "response time",
            "10.0ms",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(!text.contains("replicas"), "{text}");
        let mut seen = Overlay::new("api");
        seen.look(Look { ready: 2, want: 3, ..Look::default() });
        let reason = "3 requests wait".to_owned();
        seen.decide(Decision { at: 12.5, want: 3, because: "demand".into(), reason });
        let text = drawn(Some(&seen), (120, 40));
        for part in ["replicas", "wanted", "decisions about api", "12.5s want 3  3 requests wait"] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }

    #[test]
    fn axes_end_on_round_numbers() {
        for (most, end) in
            [(0.0, 2.0), (1.0, 2.0), (2.0, 4.0), (8.0, 10.0), (10.0, 20.0), (276.0, 400.0), (999.0, 1000.0)]
        {
            assert_eq!(nice(most), end, "{most}");
        }
    }

    #[test]
    fn a_pause_interrupts_a_line() {
        let points = [(0.0, 1.0), (0.25, 1.0), (9.0, 1.0), (9.25, 2.0)];
        let found: Vec<_> = stretches(&points, 1.0).map(<[_]>::len).collect();
        assert_eq!(found, [2, 2]);
        assert_eq!(stretches(&[], 1.0).count(), 0);
    }

    #[test]
    fn a_small_terminal_is_no_problem() {
        for size in [(1, 1), (20, 5), (40, 12)] {
            drawn(Some(&Overlay::new("api")), size);
        }
    }
}
