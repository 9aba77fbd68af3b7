//! `everywire check`: prints every fault of the configuration, and serves nothing.

use clap::Parser as _;

use crate::cli::{Check, Environment, Serve};
use crate::config::{Layers, Settings, admission};
use crate::{Failure, one_line};

pub(crate) fn run(arguments: &Check) -> Result<(), Failure> {
    let environment = Environment::try_parse_from(["everywire"]).map_err(|e| one_line(&e.to_string()))?;
    let serve = Serve { config: arguments.config.clone(), ..environment.serve };
    let settings = load(&serve)?;
    settings.warnings.iter().for_each(|warning| eprintln!("everywire: warning: {warning}"));
    match &settings.file {
        Some(file) => println!("{}: well", file.display()),
        None => println!("no configuration file: the defaults hold"),
    }
    println!("{}", admission::line(&settings));
    settings.mqtt_bounds().iter().for_each(|line| println!("{line}"));
    Ok(())
}

/// The settings, or their faults.
pub(crate) fn load(arguments: &Serve) -> Result<Settings, Failure> {
    let variable = |name: &str| std::env::var(name).ok();
    let loaded = Settings::load(&Layers { arguments, variable: &variable });
    loaded.map_err(|complaints| Failure(complaints.iter().map(ToString::to_string).collect()))
}
