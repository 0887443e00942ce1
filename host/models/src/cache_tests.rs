use super::*;

fn cache(vars: &[(&str, &str)], user_caches: Option<&str>) -> Result<Cache, Error> {
    let var = |name: &str| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| OsString::from(v));
    Cache::from_vars(var, user_caches.map(PathBuf::from))
}

#[cfg(unix)]
#[test]
fn the_environment_decides_where_the_cache_is() {
    assert_eq!(
        cache(&[("AIO_CACHE", "/big")], Some("/home/u/.cache")).unwrap().root,
        Path::new("/big")
    );
    assert_eq!(cache(&[], Some("/home/u/.cache")).unwrap().root, Path::new("/home/u/.cache/aio"));
    assert_eq!(cache(&[("AIO_CACHE", "")], Some("/c")).unwrap().root, Path::new("/c/aio"));
    assert!(cache(&[("AIO_CACHE", "here")], None).unwrap().root.is_absolute());
    assert!(matches!(cache(&[], None), Err(Error::NoCacheFolder)));
}

#[cfg(unix)]
#[test]
fn a_relative_python_is_meant_from_here() {
    let python = |value| cache(&[("AIO_PYTHON", value)], Some("/c")).unwrap().python;
    assert_eq!(python("python3.12"), "python3.12");
    assert!(Path::new(&python("venv/bin/python")).is_absolute());
    assert!(Path::new(&python("./python")).is_absolute());
}
