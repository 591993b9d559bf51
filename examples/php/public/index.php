<?php
// The front controller: every address that is no file comes here.
$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);

switch ($path) {
    case '/':
        echo "<h1>Home</h1>\n";
        break;
    case '/upload':
        printf("%s %d bytes\n", $_FILES['file']['name'], $_FILES['file']['size']);
        break;
    case '/login':
        setcookie('session', bin2hex(random_bytes(16)), ['httponly' => true]);
        header('Location: /account', true, 303);
        break;
    case '/fails':
        error_log('the application says why');
        http_response_code(500);
        echo "failed\n";
        break;
    default:
        if (preg_match('#^/posts/(\d+)$#', $path, $match)) {
            printf("post %d, page %d, for %s\n", $match[1], $_GET['page'] ?? 1, $_SERVER['HTTP_HOST']);
        } else {
            http_response_code(404);
            echo "no such page\n";
        }
}
