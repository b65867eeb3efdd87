# Active Directory for one broker, on a domain controller or with RSAT, as an administrator of accounts.
# The account is the loader's identity at SQL Server; its keytab lies in Vault and nowhere else.
param(
    [string]$Account = "svc_loader",
    [string]$SqlHost = "sql01.corp.example.com",
    [int]$SqlPort = 1433,
    [string]$SqlAccount = "svc_sql"
)
$ErrorActionPreference = "Stop"
Import-Module ActiveDirectory
$realm = (Get-ADDomain).DNSRoot.ToUpper()

$spn = "MSSQLSvc/${SqlHost}:${SqlPort}"

# AES only (24 = 0x8 AES128 + 0x10 AES256). Without it a keytab holds RC4 keys alone, and the broker refuses them.
# Not delegated, whatever a client asks for.
if (-not (Get-ADUser -Filter "SamAccountName -eq '$Account'")) {
    # A password that nobody knows; ktpass below sets another one. (The static GetBytes(48) is not in Windows PowerShell 5.1.)
    $bytes = New-Object byte[] 48
    $random = [Security.Cryptography.RandomNumberGenerator]::Create()
    $random.GetBytes($bytes)
    $random.Dispose()
    New-ADUser -Name $Account -SamAccountName $Account -UserPrincipalName "$Account@$realm" -Enabled $true `
        -AccountPassword (ConvertTo-SecureString ([Convert]::ToBase64String($bytes)) -AsPlainText -Force)
}
Set-ADUser -Identity $Account -KerberosEncryptionType AES128, AES256 -AccountNotDelegated $true -PasswordNeverExpires $true -CannotChangePassword $true

# The service: its principal name belongs to the account that SQL Server runs as, once in the forest.
Set-ADUser -Identity $SqlAccount -KerberosEncryptionType AES128, AES256
# (-S looks for another owner first, and would take the account itself for one.)
if ((Get-ADUser -Identity $SqlAccount -Properties ServicePrincipalNames).ServicePrincipalNames -notcontains $spn) {
    setspn -S $spn $SqlAccount
    if ($LASTEXITCODE -ne 0) { throw "setspn: $spn was not given to $SqlAccount; setspn -Q $spn says who has it" }
}
setspn -Q $spn

# The keytab. ktpass sets a new random password and raises the version number: each run ends the keytab of the run before.
ktpass -princ "$Account@$realm" -mapuser $Account -pType KRB5_NT_PRINCIPAL -crypto AES256-SHA1 +rndPass -out "$Account.keytab"
if ($LASTEXITCODE -ne 0) { throw "ktpass: no keytab was made" }
[Convert]::ToBase64String([IO.File]::ReadAllBytes("$PWD\$Account.keytab")) | Set-Content -NoNewline keytab.b64
Remove-Item "$Account.keytab"
Write-Output "keytab.b64: vault kv patch secret/pipelines/mssql_to_snowflake keytab_base64=@keytab.b64, then delete the file"
