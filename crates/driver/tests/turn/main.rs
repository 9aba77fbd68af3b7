//! The worker's turn on a scripted network: the order of its work, and the amounts.

#[cfg(test)]
mod bounds;
#[cfg(test)]
mod ends;
#[cfg(test)]
mod many;
#[cfg(test)]
mod net;
#[cfg(test)]
mod packets;
#[cfg(test)]
mod recorder;
#[cfg(test)]
mod setup;
#[cfg(test)]
mod timers;
#[cfg(test)]
mod unread;
