//! `everywire serve`: starts a node and stays with it until a signal ends it.
//!
//! SIGTERM and SIGINT drain and end with 0, a second one ends at once; SIGHUP reads the configuration again.

use std::io::{IsTerminal as _, Write as _};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use everywire_node::Over;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use tracing::{error, info, warn};

use crate::cli::Serve;
use crate::config::Settings;
use crate::files::{self, ReadyFile};
use crate::launch::{self, Running};
use crate::table::Operator;
use crate::{Failure, check, logs, table, token};

pub(crate) fn run(arguments: &Serve) -> Result<(), Failure> {
    let settings = check::load(arguments)?;
    logs::start(&settings);
    settings.warnings.iter().for_each(|warning| warn!("{warning}"));
    info!("{}", files::raise_limit());
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(|e| format!("signals can't be caught: {e}"))?;
    let ready = arguments.ready_file.as_deref().map(ReadyFile::prepare).transpose()?;

    let admin = token::admin(&settings.data)?;
    let why_over = Arc::<OnceLock<&'static str>>::default();
    let over = {
        let (why_over, signals) = (Arc::clone(&why_over), signals.handle());
        Over::new(move |why| {
            let _ = why_over.set(why);
            signals.close();
        })
    };
    let running = launch::start(&settings, arguments.new_epoch, &admin, over)?;
    let addresses = running.addresses();
    if addresses.is_empty() {
        running.drain();
        return Err("no listener is open, so that nobody could reach the server: give http a free port".into());
    }
    if let Err(why) = ready.map_or(Ok(()), |file| file.write(addresses)) {
        running.drain();
        return Err(why.into());
    }
    for (name, address) in addresses {
        info!("{name} listens on {address}");
    }
    // A closed standard output doesn't stop a server.
    let mut out = std::io::stdout();
    // Output that is no terminal is kept somewhere, and others read it.
    let operator =
        if out.is_terminal() { Operator::Token(&admin) } else { Operator::At(token::admin_file(&settings.data)) };
    let _ = out.write_all(table::of(&settings, addresses, &operator).as_bytes());
    stay(Stay { arguments, settings, running: Some(running), draining: None }, &mut signals)?;
    why_over.get().map_or(Ok(()), |why| Err((*why).into()))
}

struct Stay<'a> {
    arguments: &'a Serve,
    settings: Settings,
    running: Option<Running>,
    draining: Option<JoinHandle<()>>,
}

fn stay(mut stay: Stay<'_>, signals: &mut Signals) -> Result<(), Failure> {
    let handle = signals.handle();
    for signal in signals.forever() {
        match signal {
            SIGHUP => stay.reload(),
            _ => stay.drain(handle.clone())?,
        }
    }
    // The node itself has ended the wait for signals.
    if let Some(running) = stay.running.take() {
        running.drain();
    }
    match stay.draining.map(JoinHandle::join) {
        Some(Err(_)) => Err("draining failed: see the log".into()),
        _ => Ok(()),
    }
}

impl Stay<'_> {
    fn drain(&mut self, signals: Handle) -> Result<(), Failure> {
        let Some(running) = self.running.take() else {
            return Err("ended at once by a second signal: some clients were not told".into());
        };
        info!("draining: clients are told to come back; a second signal ends at once");
        let drain = move || {
            running.drain();
            signals.close();
        };
        let thread = std::thread::Builder::new().name("drain".into()).spawn(drain);
        self.draining = Some(thread.map_err(|error| format!("no thread for draining: {error}"))?);
        Ok(())
    }

    fn reload(&mut self) {
        let Some(running) = &self.running else { return };
        let fresh = match check::load(self.arguments) {
            Ok(fresh) => fresh.with_door_of(&self.settings),
            Err(Failure(lines)) => {
                for line in lines {
                    error!("{line}");
                }
                return error!("the configuration stays as it was, since the new one has errors");
            }
        };
        fresh.warnings.iter().for_each(|warning| warn!("{warning}"));
        for key in self.settings.need_restart(&fresh) {
            warn!("{key} has changed: that needs a restart");
        }
        if let Err(why) = running.reload(&fresh) {
            return error!("the configuration stays as it was: {why}");
        }
        logs::change(&fresh);
        info!("reloaded: topic rules, certificates, keys of tokens, log level");
        self.settings.take_reloadable(fresh);
    }
}
