# Sends requests as HTTP::Tiny does, Perl's own client. Usage: http_client.pl BASE. Lines as in http_client.py.

use strict;
use warnings;
use HTTP::Tiny;
use JSON::PP;

$| = 1;
my ($base) = @ARGV;
my $client = HTTP::Tiny->new(timeout => 20);
while (my $line = <STDIN>) {
    my ($method, $path, $type, $body) = @{ decode_json($line) };
    my %options;
    $options{headers}{'Content-Type'} = $type if defined $type;
    $options{content} = $body if defined $body;
    print $client->request($method, $base . $path, \%options)->{status}, "\n";
}
