//! `LOLWUT`: Redis draws something and tells its version; so do we.

use emberline_protocol::redis::encode;

use super::call::Call;

const EMBERS: &str = "\
           (
            )   .
       .   (  (
         )  ) )  '
      (  ( (  )
       ) )  )(  (
      (_(_)_(_)__)
   ~~~~~~~~~~~~~~~~~~~
";

/// The arguments choose a drawing in Redis; here there is one.
pub(super) fn lolwut(call: &mut Call<'_>) {
    let text = format!("{EMBERS}\nEmberline ver. {}\n", env!("CARGO_PKG_VERSION"));
    encode::verbatim(call.out, text.as_bytes(), call.session.version);
}
