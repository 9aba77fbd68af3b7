//! Who somebody is: tokens, users, a callback.
