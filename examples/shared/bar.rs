//! Bars of a terminal, in eighths of a character.

/// A bar of at most `width` characters that shows `value` of `most`.
pub(crate) fn bar(value: f64, most: f64, width: usize) -> String {
    let share = if most > 0.0 { (value / most).clamp(0.0, 1.0) } else { 0.0 };
    let eighths = (share * (width * 8) as f64).round() as usize;
    let part = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8];
    format!("{:<width$}", "█".repeat(eighths / 8) + part)
}
