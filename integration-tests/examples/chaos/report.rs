use crate::judge::Judged;
use crate::stage::Stage;
use std::path::PathBuf;
pub(crate) fn write(_: &Stage, _: &str, _: &Judged, _: bool) -> Result<PathBuf, String> {
    Ok(PathBuf::new())
}
