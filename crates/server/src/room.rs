//! `everywire room`: rooms and their members, through the API, as an operator.

use everywire_client::{Client, ClientError};

use crate::cli::{Room, RoomCommand};
use crate::shown::shown;
use crate::{Failure, token};

pub(crate) fn run(arguments: &Room) -> Result<(), Failure> {
    let mut client = token::as_operator(&arguments.operator)?;
    done(&mut client, &arguments.command).map_err(|error| error.to_string().into())
}

fn done(client: &mut Client, command: &RoomCommand) -> Result<(), ClientError> {
    match command {
        RoomCommand::List => {
            for room in client.rooms()? {
                println!("{}\t{}\t{}\t{}", shown(&room.room), room.members, room.join, shown(&room.title));
            }
        }
        RoomCommand::Show { room } => {
            for (name, value) in client.room(room)? {
                println!("{name}\t{}", shown(value.as_str().unwrap_or(&value.to_string())));
            }
        }
        RoomCommand::Members { room } => {
            for member in client.room_members(room)? {
                println!("{}\t{}\t{}\t{}", shown(&member.user), member.role, shown(&member.nick), member.since);
            }
        }
        RoomCommand::Kick { room, user } => client.remove_from_room(room, user)?,
    }
    Ok(())
}
