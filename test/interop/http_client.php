<?php
// Sends requests as PHP's curl does, with its default headers. Usage: http_client.php BASE. Lines as in http_client.py.

declare(strict_types=1);

while (($line = fgets(STDIN)) !== false) {
    [$method, $path, $type, $body] = json_decode($line, true);
    $curl = curl_init($argv[1] . $path);
    curl_setopt_array($curl, [CURLOPT_RETURNTRANSFER => true, CURLOPT_TIMEOUT => 20, CURLOPT_CUSTOMREQUEST => $method]);
    if ($body !== null) curl_setopt_array($curl, [CURLOPT_POST => true, CURLOPT_POSTFIELDS => $body, CURLOPT_CUSTOMREQUEST => $method]);
    if ($type !== null) curl_setopt($curl, CURLOPT_HTTPHEADER, ["Content-Type: $type"]);
    curl_exec($curl);
    echo curl_getinfo($curl, CURLINFO_RESPONSE_CODE), "\n";
}
