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

# AES only (24 = 0x8 AES128 + 0x10 AES256). Without it a keytab holds RC4 keys alone, and the broker refuses them.
# Not delegated, whatever a client asks for.
New-ADUser -Name $Account -SamAccountName $Account -UserPrincipalName "$Account@$realm" -Enabled $true `
    -AccountPassword (ConvertTo-SecureString ([Convert]::ToBase64String([Security.Cryptography.RandomNumberGenerator]::GetBytes(48))) -AsPlainText -Force) `
    -KerberosEncryptionType AES128, AES256 -AccountNotDelegated $true -PasswordNeverExpires $true -CannotChangePassword $true

# The service: its principal name belongs to the account that SQL Server runs as, once in the forest.
Set-ADUser -Identity $SqlAccount -KerberosEncryptionType AES128, AES256
setspn -S "MSSQLSvc/${SqlHost}:${SqlPort}" $SqlAccount
setspn -Q "MSSQLSvc/${SqlHost}:${SqlPort}"

# The keytab. ktpass sets a new random password (so an older keytab ends here) and raises the version number.
ktpass -princ "$Account@$realm" -mapuser $Account -pType KRB5_NT_PRINCIPAL -crypto AES256-SHA1 +rndPass -out "$Account.keytab"
[Convert]::ToBase64String([IO.File]::ReadAllBytes("$PWD\$Account.keytab")) | Set-Content -NoNewline keytab.b64
Remove-Item "$Account.keytab"
Write-Output "keytab.b64: vault kv patch secret/pipelines/mssql_to_snowflake keytab_base64=@keytab.b64, then delete the file"
