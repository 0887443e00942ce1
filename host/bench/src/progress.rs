//! How far a measurement has got, for whoever shows it.

/// Is told of each step of a measurement.
pub trait Progress {
    /// There will be so many steps.
    fn started(&mut self, steps: u64);

    /// The next step begins.
    fn step(&mut self, doing: &str);

    /// A remark that the reader should see even when all goes well.
    fn note(&mut self, text: &str);

    /// All is done.
    fn finished(&mut self);
}

/// Shows nothing.
pub struct Silent;

impl Progress for Silent {
    fn started(&mut self, _: u64) {}

    fn step(&mut self, _: &str) {}

    fn note(&mut self, _: &str) {}

    fn finished(&mut self) {}
}
