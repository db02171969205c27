<?php
// An endpoint for a subscription, in PHP without packages. Put it on your web server, or try it with
//
//   SECRET=whsec_… php -S 127.0.0.1:8090 receiver.php
//
// It refuses requests that are not signed with the secret, according to Standard Webhooks 1.0. If the work fails, it responds
// with 500, and the gateway delivers the message again later.

declare(strict_types=1);

/** How old a signature may be, or how far ahead of this clock, in seconds. */
const TOLERANCE = 300;

/** Your work. If it returns, the message is done. If it throws, the message comes again. An id may come twice. */
function work(string $id, string $body): void
{
    file_put_contents('php://stderr', "$id " . ($_SERVER['CONTENT_TYPE'] ?? '') . " $body\n");
}

/** Whether the sender knows the secret, and signed exactly this body recently. */
function is_signed(string $body): bool
{
    $key = base64_decode(preg_replace('/^whsec_/', '', (string) getenv('SECRET')), true);
    $id = $_SERVER['HTTP_WEBHOOK_ID'] ?? '';
    $timestamp = $_SERVER['HTTP_WEBHOOK_TIMESTAMP'] ?? '';
    if ($key === false || strlen($key) < 24 || $id === '' || !ctype_digit($timestamp)) {
        return false;
    }
    if (abs(time() - (int) $timestamp) > TOLERANCE) {
        return false;
    }
    $expected = 'v1,' . base64_encode(hash_hmac('sha256', "$id.$timestamp.$body", $key, true));
    foreach (explode(' ', $_SERVER['HTTP_WEBHOOK_SIGNATURE'] ?? '') as $signature) {
        if (hash_equals($expected, $signature)) {
            return true;
        }
    }
    return false;
}

$body = (string) file_get_contents('php://input');
if (!is_signed($body)) {
    http_response_code(401);
    return;
}
try {
    work($_SERVER['HTTP_WEBHOOK_ID'], $body);
    http_response_code(204);
} catch (Throwable $error) {
    error_log((string) $error);
    http_response_code(500);
}
