pub fn find_cookie() {}
